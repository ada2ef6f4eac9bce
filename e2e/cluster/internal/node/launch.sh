# Puts itself into the node's cgroups, then becomes the node's first process in the node's network namespace.
# Arguments: the node's name, the file of its network namespace, init.sh, and the arguments of init.sh.
set -eu
name=$1 netns=$2
shift 2
for controller in memory pids freezer cpu cpuacct; do
	echo $$ >"/sys/fs/cgroup/$controller/$name/daemon/cgroup.procs"
done
exec nsenter --net="$netns" unshare --mount --propagation private --pid --fork --kill-child=KILL --mount-proc bash "$@"
