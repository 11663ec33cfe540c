# Runs a program in a mount namespace of the cluster: `sh namespace.sh STATE_FOLDER PROGRAM…` in a new namespace.
#
# What this version of Kubernetes writes to fixed places stays in the state folder, and every mount of a pod ends with the
# last process of the namespace, however that process ends.
set -e
state=$1
shift

# The sockets of dockerd, containerd and the kubelet, and dockerd's pid file, by which the kubelet finds it. iptables locks
# its tables for the whole machine.
touch /run/xtables.lock "$state/run/xtables.lock"
mount --bind /run/xtables.lock "$state/run/xtables.lock"
mount --rbind "$state/run" /run

# The logs of pods.
mount --bind "$state/var-log" /var/log

# The kubelet and kube-proxy set these for the whole machine. They find here what they would set, and leave the kernel's
# values unchanged.
while read -r value name; do
    echo "$value" > "$state/config/$name"
    mount --bind "$state/config/$name" "/proc/sys/$(echo "$name" | tr . /)"
done << VALUES
1 vm.overcommit_memory
0 vm.panic_on_oom
10 kernel.panic
1 kernel.panic_on_oops
1000000 kernel.keys.root_maxkeys
25000000 kernel.keys.root_maxbytes
1 net.ipv4.conf.all.route_localnet
VALUES

exec "$@"
