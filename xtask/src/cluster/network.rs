//! The network of pods: a bridge of this machine that leads nowhere else, and the ports of the daemons.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::Args;

use super::programs::Programs;
use crate::cargo::{Result, run};

/// The bridge to which dockerd attaches pods. Its name has at most 15 bytes.
pub(super) const BRIDGE: &str = "sw-cluster0";

/// The node's address on the bridge. Kubernetes accepts no loopback address for a node.
pub(super) const NODE_ADDRESS: &str = "10.213.0.1";
pub(super) const POD_NETWORK: &str = "10.213.0.0/24";
pub(super) const SERVICE_NETWORK: &str = "10.214.0.0/24";

/// The address of the service `kubernetes`: the first of the service network.
pub(super) const API_SERVICE_ADDRESS: &str = "10.214.0.1";

/// Traffic between pods passes the chain FORWARD, which another dockerd may have closed.
const FORWARD_RULE: [&str; 7] = ["FORWARD", "-i", BRIDGE, "-o", BRIDGE, "-j", "ACCEPT"];

/// Chains that `kube-proxy --cleanup` leaves, with their tables: the kubelet of a node uses the marks as well.
const LEFT_CHAINS: [(&str, &str); 5] = [
    ("mangle", "KUBE-PROXY-CANARY"),
    ("nat", "KUBE-PROXY-CANARY"),
    ("filter", "KUBE-PROXY-CANARY"),
    ("nat", "KUBE-MARK-DROP"),
    ("nat", "KUBE-MARK-MASQ"),
];

/// An error if another Kubernetes writes rules on this machine: removing those of this cluster would remove its as well.
pub(super) fn require_unused() -> Result<()> {
    if is_done(&mut services_chain()) {
        return Err("another Kubernetes runs on this machine: its packet filter has the chain KUBE-SERVICES".to_owned());
    }
    Ok(())
}

/// Lists the chain of kube-proxy's rules for services; fails if it doesn't exist.
pub(super) fn services_chain() -> Command {
    let mut command = Command::new("iptables");
    command.args(["--wait", "--table", "nat", "--list-rules", "KUBE-SERVICES"]);
    command
}

/// Creates the bridge and lets pods reach each other.
pub(super) fn create() -> Result<()> {
    let address = format!("{NODE_ADDRESS}/24");
    run(Command::new("ip").args(["link", "add", "name", BRIDGE, "type", "bridge"]))?;
    run(Command::new("ip").args(["address", "add", &address, "dev", BRIDGE]))?;
    run(Command::new("ip").args(["link", "set", "dev", BRIDGE, "up"]))?;
    // For packets that arrive on the bridge, not for the whole machine: from pods to services.
    let forwarding = format!("/proc/sys/net/ipv4/conf/{BRIDGE}/forwarding");
    std::fs::write(&forwarding, "1").map_err(|error| format!("can't write {forwarding}: {error}"))?;
    run(Command::new("iptables").args(["--wait", "--insert"]).args(FORWARD_RULE))
}

/// Removes the bridge, its rule, and those of kube-proxy. Without a bridge, and unless a cluster `is_registered`, rules of
/// Kubernetes are those of another one, and stay.
pub(super) fn remove(programs: &Programs, is_registered: bool) -> Result<()> {
    let has_bridge = Path::new("/sys/class/net").join(BRIDGE).exists();
    if has_bridge {
        run(Command::new("ip").args(["link", "delete", "dev", BRIDGE]))?;
    }
    // Fails once the last of these rules is gone.
    while is_done(Command::new("iptables").args(["--wait", "--delete"]).args(FORWARD_RULE)) {}
    if has_bridge || is_registered {
        remove_service_rules(programs);
    }
    Ok(())
}

fn remove_service_rules(programs: &Programs) {
    if programs.are_built() {
        // Its exit code says nothing: it reports rules that never existed as errors.
        let _ = is_done(Command::new(programs.path("kube-proxy")).arg("--cleanup"));
    }
    for (table, chain) in LEFT_CHAINS {
        // Both fail if the chain doesn't exist.
        for action in ["--flush", "--delete-chain"] {
            let _ = is_done(Command::new("iptables").args(["--wait", "--table", table, action, chain]));
        }
    }
}

fn is_done(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Ports that a test may have to know in advance.
#[derive(Args, Default)]
pub(crate) struct PortOptions {
    /// The port of the Kubernetes API on 127.0.0.1; a free one by default
    #[arg(long, value_name = "PORT")]
    pub(super) api_port: Option<u16>,
    /// The port of the image registry on 127.0.0.1; a free one by default
    #[arg(long, value_name = "PORT")]
    pub(super) registry_port: Option<u16>,
}

/// The ports of all daemons.
pub(super) struct ClusterPorts {
    pub(super) api: u16,
    pub(super) registry: u16,
    pub(super) etcd: u16,
    pub(super) etcd_peer: u16,
    pub(super) kubelet: u16,
    pub(super) proxy_metrics: u16,
}

impl ClusterPorts {
    /// The ports that the options name, which must be free, and free ones.
    pub(super) fn choose(options: &PortOptions) -> Result<ClusterPorts> {
        // All stay bound until all are chosen, so that none is chosen twice.
        let mut bound = Vec::new();
        let mut choose = |port: Option<u16>| {
            let listener = TcpListener::bind(("127.0.0.1", port.unwrap_or(0))).map_err(|error| match port {
                Some(port) => format!("port {port} of 127.0.0.1 can't be used: {error}"),
                None => format!("can't find a free port: {error}"),
            })?;
            let chosen = listener.local_addr().map_err(|error| format!("can't find a free port: {error}"))?.port();
            bound.push(listener);
            Ok::<u16, String>(chosen)
        };
        Ok(ClusterPorts {
            api: choose(options.api_port)?,
            registry: choose(options.registry_port)?,
            etcd: choose(None)?,
            etcd_peer: choose(None)?,
            kubelet: choose(None)?,
            proxy_metrics: choose(None)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_named_port_is_used_and_the_others_are_free_and_different() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let ports = ClusterPorts::choose(&PortOptions { api_port: Some(free), registry_port: None }).unwrap();
        assert_eq!(ports.api, free);
        let all = [ports.api, ports.registry, ports.etcd, ports.etcd_peer, ports.kubelet, ports.proxy_metrics];
        assert_eq!(BTreeSet::from(all).len(), all.len(), "{all:?}");
    }

    #[test]
    fn a_named_port_that_is_in_use_is_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let refused = ClusterPorts::choose(&PortOptions { api_port: None, registry_port: Some(port) }).err();
        let error = refused.expect("the port is in use");
        assert!(error.starts_with(&format!("port {port} of 127.0.0.1 can't be used")), "{error}");
    }
}
