# For `packer init images/packer-1.7` with Packer 1.7 and newer. Not beside slave.pkr.hcl, as Packer 1.6 does not know
# the block: it has these plugins built in.

packer {
  required_plugins {
    googlecompute = {
      version = ">= 1.0.0"
      source  = "github.com/hashicorp/googlecompute"
    }
    ansible = {
      version = ">= 1.0.0"
      source  = "github.com/hashicorp/ansible"
    }
  }
}
