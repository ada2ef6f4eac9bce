# Runs a command with a copy of a root file system as its own: writes go elsewhere. In a mount and process namespace of its
# own; a root made by pivot_root, not chroot, so that bubblewrap works in it.
# Arguments: the root file system, a folder for what is written, the name server or "", the working directory,
# bind mounts as FROM:TO, "--", the command.
set -eu
lower=$1 state=$2 nameserver=$3 workdir=$4
shift 4
root=$state/root
mkdir -p "$state/upper" "$state/work" "$root"
mount -t overlay overlay -o "lowerdir=$lower,upperdir=$state/upper,workdir=$state/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --rbind /sys "$root/sys"
while [ "$1" != -- ]; do
	from=${1%%:*} to=$root${1#*:}
	if [ -d "$from" ]; then
		mkdir -p "$to"
	else
		mkdir -p "${to%/*}"
		touch "$to"
	fi
	mount --rbind "$from" "$to"
	shift
done
shift
if [ -n "$nameserver" ]; then
	echo "nameserver $nameserver" >"$root/etc/resolv.conf"
fi
mkdir -p "$root/.host"
cd "$root"
pivot_root . .host
umount -l /.host
rmdir /.host
cd "$workdir"
exec "$@"
