#!/bin/sh
# Make this host into an image: what is its own, or tells of those who built it, goes. As root, last of all; what still
# runs works on, but nothing may be installed afterwards. Whatever boots the image makes anew what is missing here.
set -eu

# Who it is. An empty machine-id is filled in at boot, an absent one is taken for the very first boot of the system.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
rm -f /etc/ssh/ssh_host_*
rm -f /etc/hostname /var/lib/dhcp/* /var/lib/NetworkManager/*.lease

# sshd does not start without keys. Clouds' own agents make them; where there is none, this does.
cat >/etc/systemd/system/dist-test-host-keys.service <<'UNIT'
[Unit]
Description=Keys of this host for SSH
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A

[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --quiet dist-test-host-keys.service

# Who built it, and with what.
find /root /home -xdev \( -name authorized_keys -o -name known_hosts -o -name '*_history' \) -delete
rm -rf /root/.ansible /root/.cache /home/*/.ansible /home/*/.cache /tmp/* /var/tmp/*

# What it would be told again, or what nobody wants to read.
apt-get clean
rm -rf /var/lib/apt/lists/*
find /var/cache/apt -name '*.bin' -delete
rm -rf /var/log/journal/* /run/log/journal/*
find /var/log -type f -delete
rm -rf /var/lib/cloud/instances /var/lib/cloud/instance
sync
