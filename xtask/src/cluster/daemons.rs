//! The command lines and configuration files of the cluster's daemons.
//!
//! Everything listens on 127.0.0.1, except the kubelet: the API server reaches it at the node's address on the bridge.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::certificates::{API_SERVER, CA, ETCD, KUBELET_CLIENT, NODE, SERVICE_ACCOUNTS};
use super::cgroup;
use super::folder::ClusterFolder;
use super::network::{BRIDGE, ClusterPorts, NODE_ADDRESS, POD_NETWORK, SERVICE_NETWORK};
use super::processes::{self, ProcessIdentity};
use super::programs::Programs;
use crate::cargo::Result;

/// The image of each pod's first container, which holds the pod's network. No registry has it: it is made on this machine.
pub(super) const PAUSE_IMAGE: &str = "stagewright/pause:local";

/// A script that runs a program in a mount namespace of the cluster.
const NAMESPACE: &str = include_str!("namespace.sh");

/// dockerd's runtime.
const RUNC: &str = include_str!("runc.sh");

/// A process of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClusterDaemon {
    Registry,
    Docker,
    Etcd,
    ApiServer,
    ControllerManager,
    Scheduler,
    Kubelet,
    Proxy,
}

impl ClusterDaemon {
    /// In the order in which they start.
    pub(super) const ALL: [ClusterDaemon; 8] = [
        ClusterDaemon::Registry,
        ClusterDaemon::Docker,
        ClusterDaemon::Etcd,
        ClusterDaemon::ApiServer,
        ClusterDaemon::ControllerManager,
        ClusterDaemon::Scheduler,
        ClusterDaemon::Kubelet,
        ClusterDaemon::Proxy,
    ];

    /// The name of the program, of the pid file and of the log.
    pub(super) fn name(self) -> &'static str {
        match self {
            ClusterDaemon::Registry => "docker-registry",
            ClusterDaemon::Docker => "dockerd",
            ClusterDaemon::Etcd => "etcd",
            ClusterDaemon::ApiServer => "kube-apiserver",
            ClusterDaemon::ControllerManager => "kube-controller-manager",
            ClusterDaemon::Scheduler => "kube-scheduler",
            ClusterDaemon::Kubelet => "kubelet",
            ClusterDaemon::Proxy => "kube-proxy",
        }
    }
}

/// What the command lines depend on.
pub(super) struct DaemonSetup<'a> {
    pub(super) folder: &'a ClusterFolder,
    pub(super) programs: &'a Programs,
    pub(super) ports: &'a ClusterPorts,
}

impl DaemonSetup<'_> {
    /// Writes the configuration files of all daemons.
    pub(super) fn write_configs(&self) -> Result<()> {
        let folder = self.folder;
        folder.write(&folder.config("namespace.sh"), NAMESPACE)?;
        folder.write(&folder.config("registry.json"), &self.registry_config())?;
        folder.write(&folder.config("dockerd.json"), &self.docker_config())?;
        folder.write(&folder.config("kubelet.json"), &self.kubelet_config())?;
        let runc = folder.config("runc.sh");
        folder.write(&runc, RUNC)?;
        std::fs::set_permissions(&runc, Permissions::from_mode(0o700))
            .map_err(|error| format!("can't make {} executable: {error}", runc.display()))
    }

    pub(super) fn start(&self, daemon: ClusterDaemon) -> Result<()> {
        let lines = match daemon {
            ClusterDaemon::Registry => self.registry(),
            ClusterDaemon::Docker => self.docker(),
            ClusterDaemon::Etcd => self.etcd(),
            ClusterDaemon::ApiServer => self.api_server(),
            ClusterDaemon::ControllerManager => self.controller_manager(),
            ClusterDaemon::Scheduler => self.scheduler(),
            ClusterDaemon::Kubelet => self.kubelet(&self.enter_namespace()?),
            ClusterDaemon::Proxy => self.proxy(&self.enter_namespace()?),
        };
        processes::start(self.folder, daemon.name(), &words(&lines))
    }

    fn registry(&self) -> String {
        format!("docker-registry\nserve\n{}", self.folder.config("registry.json").display())
    }

    fn docker(&self) -> String {
        let folder = self.folder;
        format!(
            "unshare
            --mount
            sh
            {namespace}
            {state}
            dockerd
            --config-file={config}",
            namespace = folder.config("namespace.sh").display(),
            state = folder.path().display(),
            config = folder.config("dockerd.json").display(),
        )
    }

    fn etcd(&self) -> String {
        let folder = self.folder;
        let (certificate, key, ca) = (folder.certificate(ETCD), folder.key(ETCD), folder.certificate(CA));
        let (certificate, key, ca) = (certificate.display(), key.display(), ca.display());
        let client = format!("https://127.0.0.1:{}", self.ports.etcd);
        let peer = format!("https://127.0.0.1:{}", self.ports.etcd_peer);
        format!(
            "{program}
            --data-dir={data}
            --logger=zap
            --name=default
            --listen-client-urls={client}
            --advertise-client-urls={client}
            --listen-peer-urls={peer}
            --initial-advertise-peer-urls={peer}
            --initial-cluster=default={peer}
            --client-cert-auth
            --cert-file={certificate}
            --key-file={key}
            --trusted-ca-file={ca}
            --peer-client-cert-auth
            --peer-cert-file={certificate}
            --peer-key-file={key}
            --peer-trusted-ca-file={ca}",
            program = self.program(ClusterDaemon::Etcd),
            data = folder.path().join("etcd").display(),
        )
    }

    /// The API refuses a loopback address as the one that it advertises to pods. It doesn't listen on that of the bridge, so
    /// pods can't reach it.
    fn api_server(&self) -> String {
        let folder = self.folder;
        format!(
            "{program}
            --bind-address=127.0.0.1
            --secure-port={port}
            --advertise-address={NODE_ADDRESS}
            --service-cluster-ip-range={SERVICE_NETWORK}
            --tls-cert-file={certificate}
            --tls-private-key-file={key}
            --client-ca-file={ca}
            --etcd-servers=https://127.0.0.1:{etcd}
            --etcd-cafile={ca}
            --etcd-certfile={etcd_certificate}
            --etcd-keyfile={etcd_key}
            --kubelet-client-certificate={kubelet_certificate}
            --kubelet-client-key={kubelet_key}
            --kubelet-preferred-address-types=InternalIP
            --service-account-issuer=https://kubernetes.default.svc
            --service-account-signing-key-file={token_key}
            --service-account-key-file={token_certificate}
            --authorization-mode=Node,RBAC
            --enable-admission-plugins=NodeRestriction
            --allow-privileged=true",
            program = self.program(ClusterDaemon::ApiServer),
            port = self.ports.api,
            certificate = folder.certificate(API_SERVER).display(),
            key = folder.key(API_SERVER).display(),
            ca = folder.certificate(CA).display(),
            etcd = self.ports.etcd,
            etcd_certificate = folder.certificate(ETCD).display(),
            etcd_key = folder.key(ETCD).display(),
            kubelet_certificate = folder.certificate(KUBELET_CLIENT).display(),
            kubelet_key = folder.key(KUBELET_CLIENT).display(),
            token_key = folder.key(SERVICE_ACCOUNTS).display(),
            token_certificate = folder.certificate(SERVICE_ACCOUNTS).display(),
        )
    }

    fn controller_manager(&self) -> String {
        format!(
            "{program}
            --kubeconfig={kubeconfig}
            --port=0
            --secure-port=0
            --leader-elect=false
            --use-service-account-credentials
            --flex-volume-plugin-dir={plugins}
            --root-ca-file={ca}
            --service-account-private-key-file={token_key}",
            program = self.program(ClusterDaemon::ControllerManager),
            kubeconfig = self.kubeconfig(ClusterDaemon::ControllerManager),
            plugins = self.folder.path().join("kubelet/volume-plugins").display(),
            ca = self.folder.certificate(CA).display(),
            token_key = self.folder.key(SERVICE_ACCOUNTS).display(),
        )
    }

    fn scheduler(&self) -> String {
        format!(
            "{program}
            --kubeconfig={kubeconfig}
            --port=0
            --secure-port=0
            --leader-elect=false",
            program = self.program(ClusterDaemon::Scheduler),
            kubeconfig = self.kubeconfig(ClusterDaemon::Scheduler),
        )
    }

    /// The kubelet mounts volumes, which dockerd mounts into containers: both have to see the same mounts, which is what
    /// `enter`, the start of a command line, is for.
    fn kubelet(&self, enter: &str) -> String {
        format!(
            "{enter}
            {program}
            --config={config}
            --kubeconfig={kubeconfig}
            --hostname-override={NODE}
            --node-ip={NODE_ADDRESS}
            --pod-infra-container-image={PAUSE_IMAGE}
            --root-dir={root}
            --cert-dir={root}/pki
            --volume-plugin-dir={root}/volume-plugins
            --experimental-dockershim-root-directory={dockershim}",
            program = self.program(ClusterDaemon::Kubelet),
            config = self.folder.config("kubelet.json").display(),
            kubeconfig = self.kubeconfig(ClusterDaemon::Kubelet),
            root = self.folder.path().join("kubelet").display(),
            dockershim = self.folder.path().join("dockershim").display(),
        )
    }

    /// With `--masquerade-all`, answers of pods return through the machine even if a bridge's traffic doesn't pass its packet
    /// filter. The limits of connection tracking are the machine's and stay unchanged.
    fn proxy(&self, enter: &str) -> String {
        format!(
            "{enter}
            {program}
            --kubeconfig={kubeconfig}
            --proxy-mode=iptables
            --hostname-override={NODE}
            --bind-address={NODE_ADDRESS}
            --cluster-cidr={POD_NETWORK}
            --masquerade-all
            --nodeport-addresses=127.0.0.0/8,{POD_NETWORK}
            --conntrack-max-per-core=0
            --conntrack-tcp-timeout-established=0
            --conntrack-tcp-timeout-close-wait=0
            --healthz-port=0
            --metrics-bind-address=127.0.0.1:{metrics}
            --oom-score-adj=0",
            program = self.program(ClusterDaemon::Proxy),
            metrics = self.ports.proxy_metrics,
            kubeconfig = self.kubeconfig(ClusterDaemon::Proxy),
        )
    }

    /// The start of a command line that runs in dockerd's mount namespace.
    fn enter_namespace(&self) -> Result<String> {
        let docker = ClusterDaemon::Docker.name();
        let identity = ProcessIdentity::read(&self.folder.pid_file(docker));
        let pid = identity.ok_or_else(|| format!("{docker} has no pid file"))?.pid;
        Ok(format!("nsenter\n--mount=/proc/{pid}/ns/mnt"))
    }

    fn registry_config(&self) -> String {
        let config = json!({
            "version": 0.1,
            "log": { "level": "warn" },
            "storage": {
                "filesystem": { "rootdirectory": self.folder.path().join("registry") },
                "delete": { "enabled": true },
            },
            "http": { "addr": format!("127.0.0.1:{}", self.ports.registry) },
        });
        config.to_string()
    }

    /// dockerd changes no packet filter and no settings of this machine: the bridge is made in [`super::network`].
    fn docker_config(&self) -> String {
        let config = json!({
            "data-root": self.folder.path().join("docker"),
            "hosts": ["unix:///var/run/docker.sock", format!("unix://{}", self.folder.docker_socket().display())],
            "bridge": BRIDGE,
            "iptables": false,
            "ip6tables": false,
            "ip-forward": false,
            "ip-masq": false,
            "userland-proxy": false,
            "cgroup-parent": format!("/{}", cgroup::NAME),
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "oom-score-adjust": 0,
            "runtimes": { "stagewright": { "path": self.folder.config("runc.sh") } },
            "default-runtime": "stagewright",
            "log-level": "warn",
        });
        config.to_string()
    }

    fn kubelet_config(&self) -> String {
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "port": self.ports.kubelet,
            "readOnlyPort": 0,
            "healthzPort": 0,
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.folder.certificate(CA) },
            },
            "authorization": { "mode": "Webhook" },
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", cgroup::NAME),
            "failSwapOn": false,
            "hairpinMode": "none",
            "makeIPTablesUtilChains": false,
            "oomScoreAdj": 0,
            // Plugins for devices would listen in /var/lib/kubelet.
            "featureGates": { "DevicePlugins": false },
            // The node becomes ready with an update of its status, every 10 seconds by default.
            "nodeStatusUpdateFrequency": "1s",
            "nodeStatusReportFrequency": "1m",
            // The default is to watch them, and often a pod's first mount waits until the watch is permitted.
            "configMapAndSecretChangeDetectionStrategy": "Get",
            // A developer's disk may well be fuller than that of a node should be.
            "evictionHard": { "memory.available": "50Mi" },
            "imageGCHighThresholdPercent": 100,
        });
        config.to_string()
    }

    fn program(&self, daemon: ClusterDaemon) -> String {
        self.programs.path(daemon.name()).display().to_string()
    }

    fn kubeconfig(&self, daemon: ClusterDaemon) -> String {
        self.folder.kubeconfig(daemon.name()).display().to_string()
    }
}

/// A command line that is written with one word in a line.
fn words(lines: &str) -> Vec<String> {
    lines.lines().map(|line| line.trim_start().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::certificates::CLIENTS;

    fn with_setup(check: impl FnOnce(&DaemonSetup<'_>)) {
        let folder = ClusterFolder::new(Path::new("/state of/cluster")).unwrap();
        let programs = Programs::new(Path::new("/cache"));
        let ports = ClusterPorts { api: 1, registry: 2, etcd: 3, etcd_peer: 4, kubelet: 5, proxy_metrics: 6 };
        check(&DaemonSetup { folder: &folder, programs: &programs, ports: &ports });
    }

    #[test]
    fn a_path_with_a_space_stays_one_word() {
        with_setup(|setup| {
            let words = words(&setup.docker());
            assert_eq!(words[..3], ["unshare", "--mount", "sh"]);
            assert_eq!(words[3..5], ["/state of/cluster/config/namespace.sh", "/state of/cluster"]);
            assert_eq!(words[5..], ["dockerd", "--config-file=/state of/cluster/config/dockerd.json"]);
        });
    }

    #[test]
    fn every_daemon_but_the_kubelet_listens_on_loopback_only() {
        with_setup(|setup| {
            let api = words(&setup.api_server());
            assert!(api.contains(&"--bind-address=127.0.0.1".to_owned()), "{api:?}");
            assert!(api.contains(&"--etcd-servers=https://127.0.0.1:3".to_owned()), "{api:?}");
            let etcd = words(&setup.etcd());
            let listens = etcd.iter().filter(|word| word.starts_with("--listen-")).collect::<Vec<_>>();
            assert_eq!(listens, ["--listen-client-urls=https://127.0.0.1:3", "--listen-peer-urls=https://127.0.0.1:4"]);
            assert!(setup.registry_config().contains(r#""addr":"127.0.0.1:2""#), "{}", setup.registry_config());
            let proxy = words(&setup.proxy("nsenter"));
            assert!(proxy.contains(&"--nodeport-addresses=127.0.0.0/8,10.213.0.0/24".to_owned()), "{proxy:?}");
            for silent in [setup.controller_manager(), setup.scheduler()] {
                let silent = words(&silent);
                assert!(silent.iter().filter(|word| word.ends_with("port=0")).count() == 2, "{silent:?}");
            }
        });
    }

    #[test]
    fn every_daemon_that_uses_the_api_has_a_client_certificate() {
        use ClusterDaemon::{ControllerManager, Kubelet, Proxy, Scheduler};
        for daemon in [ControllerManager, Kubelet, Proxy, Scheduler] {
            assert!(CLIENTS.iter().any(|(name, ..)| *name == daemon.name()), "{daemon:?}");
        }
    }
}
