# The image of a slave on Google Compute Engine:
#
#   make wheel; PATH="$PWD/.venv/bin:$PATH" packer build -var project=PROJECT -var zone=ZONE images/slave.pkr.hcl
#
# With Packer 1.7 and newer, first `packer init images/packer-1.7`; Debian's 1.6 has its plugins built in and refuses
# that file. What the image holds beside the roles' defaults is in images/inventory.

variable "project" {
  type        = string
  description = "Project that builds and keeps the image."
}

variable "zone" {
  type        = string
  description = "Zone of the instance that it is built on."
}

variable "machine_type" {
  type    = string
  default = "e2-standard-2"
}

variable "network" {
  type        = string
  default     = "default"
  description = "Network of that instance; it must reach Debian's and Python's package registries."
}

variable "source_image_family" {
  type    = string
  default = "debian-12"
}

variable "image_family" {
  type        = string
  default     = "dist-test-slave"
  description = "Instance templates name the family to get its newest image."
}

variable "disk_size_gigabytes" {
  type    = number
  default = 20
}

source "googlecompute" "slave" {
  project_id              = var.project
  zone                    = var.zone
  network                 = var.network
  machine_type            = var.machine_type
  source_image_family     = var.source_image_family
  source_image_project_id = ["debian-cloud"]
  disk_size               = var.disk_size_gigabytes
  image_name              = "dist-test-slave-${formatdate("YYYYMMDD-hhmmss", timestamp())}"
  image_family            = var.image_family
  image_description       = "Slave of dist_test; settings come from the attribute dist-test-settings"
  ssh_username            = "packer"
  # The image is built by whoever runs Packer; the instance needs no rights of its own.
  disable_default_service_account = true
}

build {
  name    = "gce"
  sources = ["source.googlecompute.slave"]

  provisioner "ansible" {
    playbook_file       = "${path.root}/../playbooks/image.yml"
    inventory_directory = "${path.root}/inventory"
    groups              = ["cluster", "slaves"]
    user                = "packer"
    ansible_env_vars    = ["ANSIBLE_CONFIG=${path.root}/../ansible.cfg"]
    # Google's images keep time with chrony.
    extra_arguments = [
      "--extra-vars", "base_clock_package=chrony base_clock_unit=chrony.service",
    ]
  }

  provisioner "shell" {
    script          = "${path.root}/generalise.sh"
    execute_command = "sudo sh {{ .Path }}"
    # It removes the file that it is run from.
    skip_clean = true
  }

  post-processor "manifest" {
    output     = "${path.root}/../dist/dist_test-slave-gce.json"
    strip_path = true
  }
}
