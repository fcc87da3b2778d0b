"""The only code that talks to MySQL, beanstalkd and S3. Their libraries' exceptions stop here."""
