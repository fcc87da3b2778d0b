# The image of a slave without a cloud, for those who drive all their images with Packer; the same as `make image`.
#
#   sudo packer build images/local.pkr.hcl

source "null" "local" {
  communicator = "none"
}

build {
  name    = "local"
  sources = ["source.null.local"]

  provisioner "shell-local" {
    inline = ["cd ${path.root}/.. && .venv/bin/python -m images.build --tool ansible"]
  }

  post-processor "manifest" {
    output = "${path.root}/../dist/dist_test-slave-packer.json"
  }
}
