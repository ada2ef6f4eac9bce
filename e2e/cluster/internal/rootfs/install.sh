# Installs packages into a new root file system. Arguments: its folder, the packages.
set -eu
root=$1
shift
mount -t proc proc "$root/proc" # Java's package asks for it
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# The mirror of the machine, with its proxy if it has one.
for file in /etc/apt/apt.conf.d/*proxy*; do
	if [ -e "$file" ]; then cp "$file" "$root/etc/apt/apt.conf.d/"; fi
done
cp /etc/resolv.conf "$root/etc/resolv.conf"
# No daemon is to be started in here.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# A mirror may be a snapshot, older than its own lists say they are valid.
chroot "$root" apt-get update -o Acquire::Check-Valid-Until=false
chroot "$root" apt-get install --yes --no-install-recommends "$@"
# Netty, and so Bazel's TLS, wants its library by a name that Debian spells otherwise, and where Bazel has its own.
if [ -d "$root/usr/share/bazel" ]; then
	cp "$root"/usr/lib/*/jni/libnetty-tcnative.so "$root/usr/share/bazel/libnetty_tcnative.so"
fi
chroot "$root" apt-get clean
rm -rf "$root"/var/lib/apt/lists/* "$root"/etc/apt/apt.conf.d/*proxy*
