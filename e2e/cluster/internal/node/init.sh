# The first process of a node, in namespaces of its own for mounts and processes: with it the whole node ends.
# Arguments: the node's folder, its name, its address, the folder of its logs, the folder of the programs.
set -u
dir=$1 name=$2 address=$3 logs=$4 programs=$5

# Pods mount volumes through propagation, which must not reach the host.
mount --make-rshared /
rm -rf "$dir/run/containerd" # a reboot empties /run
for path in /var/lib/kubelet /var/lib/cni /var/lib/containerd /var/log/pods /var/log/containers /run/containerd; do
	mkdir -p "$dir$path"
	mount --bind "$dir$path" "$path" || exit 1
done

# Like a service manager: what ends is started again.
keep() {
	log="$logs/$name-$1.log"
	shift
	while :; do
		"$@" >>"$log" 2>&1
		echo "--- ended with status $?; starting it again" >>"$log"
		sleep 1
	done
}

keep containerd containerd --config "$dir/config/containerd.toml" &
until ctr version >/dev/null 2>&1; do sleep 0.1; done
keep kubelet "$programs/kubelet" --config "$dir/config/kubelet.yaml" --kubeconfig "$dir/config/kubelet.kubeconfig" \
	--hostname-override "$name" --node-ip "$address" &
keep kube-proxy "$programs/kube-proxy" --config "$dir/config/kube-proxy.yaml" &
wait
