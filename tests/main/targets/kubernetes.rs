//! The target `kubernetes`, on a cluster that `cargo xtask cluster up` has started. Each test has a namespace of its own, in
//! which it has the rights of docs/cluster.md and no others.
//!
//! They run by name, since building a cluster takes minutes:
//! `eval "$(cargo xtask cluster up)" && cargo nextest run -p stagewright-tests --run-ignored only -E 'test(kubernetes::)'`

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value as Json;

use super::engine::{compile_service, deploy, image_stages};
use super::load::Load;
use crate::environment::{Ended, TestEnvironment, eventually};

mod crds;
mod drift;
mod faults;
mod helm;
mod schema;
mod sources;
mod strategies;
mod traffic;

/// KUBECONFIG, SERVER, IMAGE_STAGES, DEPLOY and NAMESPACE are replaced.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "kubernetes"

[inputs.version]
[inputs.broken]
default = ""
[inputs.exit]
default = ""

[environments.production]
target = "kubernetes"

[secrets.kubeconfig]
from = "file:KUBECONFIG"
hosts = ["SERVER"]
[credentials.cluster]
type = "kubeconfig"
file = "kubeconfig"

IMAGE_STAGES

[stages.deploy]
uses = "deploy"
needs = ["push"]
environment = "production"
[stages.deploy.with]
service = "shop"
credential = "cluster"
namespace = "NAMESPACE"
images = { web = "${{ stages.push.outputs.reference }}" }
DEPLOY
"#;

/// The variables of the service that runs in the pods.
const VARIABLES: &str =
    r#", HOST = "0.0.0.0", PORT = "8080", BROKEN = "${{ inputs.broken }}", EXIT = "${{ inputs.exit }}""#;

const MANIFESTS: &str = r#"manifests = ["k8s/*.yaml"]"#;

const CONFIGURATION: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: shop }
data: { COLOUR: green }
"#;

const DEPLOYMENT: &str = r#"
apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: shop } }
  strategy: { rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: web
        image: web
        envFrom: [{ configMapRef: { name: shop } }]
        readinessProbe: { httpGet: { port: 8080, path: /health }, periodSeconds: 1 }
"#;

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata: { name: shop }
spec:
  selector: { app: shop }
  ports: [{ port: 80, targetPort: 8080 }]
"#;

/// A namespace of the cluster, and a repository that deploys to it.
struct Namespace {
    name: String,
    repository: TestEnvironment,
}

/// What `cargo xtask cluster up` has printed.
fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} isn't set: run eval \"$(cargo xtask cluster up)\" first"))
}

impl Namespace {
    fn with(deploy: &str) -> Namespace {
        Namespace::of(PIPELINE, deploy)
    }

    /// With a pipeline like [`PIPELINE`].
    fn of(pipeline: &str, deploy: &str) -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let server = variable("KUBE_API").replace("https://", "");
        let text = pipeline
            .replace("KUBECONFIG", &variable("DEPLOYER_KUBECONFIG"))
            .replace("SERVER", &server)
            .replace("IMAGE_STAGES", &image_stages(&variable("REGISTRY"), VARIABLES))
            .replace("NAMESPACE", &name)
            .replace("DEPLOY", deploy);
        let repository = TestEnvironment::with_pipeline(&text);
        compile_service(&repository);
        let namespace = Namespace { name, repository };
        namespace.kubectl(&["create", "namespace", &namespace.name]);
        let role = include_str!("../../../xtask/src/cluster/deployer.yaml")
            .replace("namespace: default", &format!("namespace: {}", namespace.name));
        namespace.repository.write("role.yaml", &role);
        namespace.kubectl(&[
            "apply",
            "--filename",
            &namespace.repository.root().join("role.yaml").display().to_string(),
        ]);
        namespace.repository.run(&["grant", "--yes"]).exits(0);
        namespace
    }

    /// With a Deployment, a ConfigMap that it reads, and a Service.
    fn with_shop(deploy: &str) -> Namespace {
        let namespace = Namespace::with(&format!("{MANIFESTS}\n{deploy}"));
        namespace.manifests(&[CONFIGURATION, DEPLOYMENT, SERVICE]);
        namespace
    }

    fn manifests(&self, manifests: &[&str]) {
        self.repository.write("k8s/shop.yaml", &manifests.join("---"));
    }

    #[track_caller]
    fn deploy(&self, version: &str, more: &[&str], code: i32) -> Ended {
        deploy(&self.repository, version, more).exits(code)
    }

    /// Runs `kubectl` as the administrator, which must succeed. Returns what it prints.
    #[track_caller]
    fn kubectl(&self, args: &[&str]) -> String {
        let mut command = Command::new(variable("KUBECTL"));
        command.args(["--kubeconfig", &variable("KUBECONFIG"), "--namespace", &self.name]).args(args);
        let output = command.output().expect("kubectl starts");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// The names of the objects of some kinds, sorted. Those that the cluster puts into each namespace are left out.
    fn objects(&self, kinds: &str) -> Vec<String> {
        let listed = self.kubectl(&["get", kinds, "--output", "name", "--sort-by", "{.metadata.name}"]);
        listed.lines().filter(|name| !name.contains("kube-root-ca")).map(str::to_owned).collect()
    }

    fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "--output", &format!("jsonpath={{{path}}}")])
    }

    /// Where the service answers.
    fn address(&self) -> String {
        self.field("service/shop", ".spec.clusterIP")
    }

    /// What the service answers, once it answers the same for some time.
    fn serves(&self) -> String {
        let url = format!("http://{}/", self.address());
        let ask = || {
            let output = Command::new("curl").args(["-s", "--max-time", "2", &url]).output().expect("curl starts");
            output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
        };
        // The node directs requests by the change some moments later.
        eventually("the service answers the same for some seconds", || {
            let answers = [(); 3].map(|()| {
                std::thread::sleep(std::time::Duration::from_secs(1));
                ask()
            });
            answers.windows(2).all(|pair| pair[0] == pair[1]).then_some(())?;
            answers[0].clone()
        })
    }

    fn record(&self) -> Json {
        serde_json::from_str(&self.field("configmap/stagewright-shop", ".data.record")).expect("JSON")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

#[test]
#[ignore = "needs a cluster"]
fn a_release_replaces_the_one_before_it_with_its_configuration() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    assert_eq!(shop.serves(), "version 1");
    let green = shop.field("deployment/shop", ".spec.template.spec.containers[0].envFrom[0].configMapRef.name");
    assert!(green.starts_with("shop-"), "{green}");

    // The same image with another configuration is another release, and restarts the pods.
    let blue = CONFIGURATION.replace("green", "blue");
    let claim = "\napiVersion: v1\nkind: Secret\nmetadata: { name: empty }\n";
    shop.manifests(&[&blue, DEPLOYMENT, SERVICE, claim]);
    let rehearsed = shop.repository.run(&["run", "--rehearse", "--input", "version=1"]).exits(0).stdout;
    let changes = ["~ configmap/shop", "-     \"COLOUR\": \"green\"", "+     \"COLOUR\": \"blue\"", "+ secret/empty"];
    for change in changes {
        assert!(rehearsed.contains(change), "{change}: {rehearsed}");
    }
    assert!(rehearsed.contains("would deploy shop to production: 1 changed, 1 new"), "{rehearsed}");
    assert!(!shop.objects("secret").contains(&"secret/empty".to_owned()));
    shop.deploy("1", &[], 0);
    assert_ne!(shop.field("deployment/shop", ".spec.template.spec.containers[0].envFrom[0].configMapRef.name"), green);
    assert!(
        shop.objects("configmap").iter().all(|name| !name.ends_with(&green)),
        "the earlier configuration is deleted"
    );
    assert!(shop.objects("secret").contains(&"secret/empty".to_owned()));

    // What the next release doesn't have is deleted. What a person has created isn't.
    shop.kubectl(&["create", "configmap", "foreign", "--from-literal=a=b"]);
    shop.manifests(&[&blue, DEPLOYMENT, SERVICE]);
    shop.deploy("2", &[], 0);
    assert_eq!(shop.serves(), "version 2");
    assert!(!shop.objects("secret").contains(&"secret/empty".to_owned()));
    assert!(shop.objects("configmap").contains(&"configmap/foreign".to_owned()));

    // Two steps back: the image and the configuration of then, although the files have changed.
    let history = shop.repository.run(&["env", "history", "production", "--json"]).exits(0);
    let history: Vec<Json> = serde_json::from_str(&history.stdout).expect("JSON");
    let oldest = history.last().expect("three releases")["number"].to_string();
    shop.repository.run(&["rollback", "production", "--to", &oldest]).exits(0);
    assert_eq!(shop.serves(), "version 1");
    assert_eq!(shop.field("deployment/shop", ".spec.template.spec.containers[0].envFrom[0].configMapRef.name"), green);
    assert_eq!(shop.field(&format!("configmap/{green}"), ".data.COLOUR"), "green");
}

#[test]
#[ignore = "needs a cluster"]
fn a_release_that_never_gets_ready_leaves_the_earlier_one_serving() {
    let shop = Namespace::with_shop("readiness = { deadline = \"15s\" }");
    shop.deploy("1", &[], 0);
    let mut load = Load::on_host(&shop.address(), 80, "/");
    let failed = shop.deploy("2", &["exit=7"], 1).stdout;
    assert!(failed.contains("the readiness check didn't pass within 15 s"), "{failed}");
    assert!(failed.contains("deployment/shop: 1 of 2 replicas are updated; pod shop-"), "{failed}");
    assert!(failed.contains("/web: no database"), "the log of the failing pod: {failed}");
    assert!(failed.contains("release shop-2 was removed, and release shop-1"), "{failed}");
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1"], "{answers:?}");
    assert_eq!(shop.record()["serving"], "shop-1");
    assert_eq!(shop.record()["unfinished"], serde_json::json!([]));
    assert_eq!(shop.field("deployment/shop", ".status.updatedReplicas"), "2");
    shop.deploy("3", &[], 0);
    assert_eq!(shop.serves(), "version 3");
}

/// The number of replicas goes from the manifest to an autoscaler without a moment in which it is 1.
#[test]
#[ignore = "needs a cluster"]
fn an_autoscaler_takes_the_replicas_over() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    let autoscaler = "\napiVersion: autoscaling/v2beta2\nkind: HorizontalPodAutoscaler\nmetadata: { name: shop }\nspec:\n  \
                      scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: shop }\n  minReplicas: 2\n  maxReplicas: 4\n  \
                      metrics: [{ type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 80 } } }]\n";
    let without_replicas = DEPLOYMENT.replace("  replicas: 2\n", "");
    shop.manifests(&[CONFIGURATION, &without_replicas, SERVICE, autoscaler]);
    let mut watch = Command::new(variable("KUBECTL"))
        .args(["--kubeconfig", &variable("KUBECONFIG"), "--namespace", &shop.name, "get", "deployment/shop", "--watch"])
        .args(["--output", "jsonpath={.spec.replicas}{\"\\n\"}"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("kubectl starts");
    shop.deploy("2", &[], 0);
    // What an autoscaler has decided isn't a conflict, nor undone by the next release.
    shop.kubectl(&["scale", "deployment/shop", "--replicas=3"]);
    shop.deploy("3", &[], 0);
    assert_eq!(shop.field("deployment/shop", ".spec.replicas"), "3");
    watch.kill().expect("kubectl runs");
    let seen = watch.wait_with_output().expect("kubectl has ended").stdout;
    let seen = String::from_utf8(seen).expect("UTF-8");
    assert!(!seen.is_empty() && seen.lines().all(|replicas| replicas == "2" || replicas == "3"), "{seen}");
}

#[test]
#[ignore = "needs a cluster"]
fn nothing_is_applied_of_a_release_that_the_cluster_refuses() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    let version = |shop: &Namespace| shop.field("deployment/shop", ".metadata.resourceVersion");
    let before = version(&shop);
    let refused = |manifests: &[&str], expected: &[&str]| {
        shop.manifests(manifests);
        let ended = shop.repository.run(&["run", "--input", "version=2"]);
        assert_ne!(ended.code, 0);
        for text in expected {
            assert!(ended.stdout.contains(text), "{text} in {}", ended.stdout);
        }
        assert_eq!(version(&shop), before, "nothing was applied");
    };
    let ingress = "\napiVersion: networking.k8s.io/v2\nkind: Ingress\nmetadata: { name: shop }\n";
    refused(
        &[CONFIGURATION, DEPLOYMENT, SERVICE, ingress],
        &["ingress/shop: the cluster has no API networking.k8s.io/v2", "at k8s/shop.yaml:", "use networking.k8s.io/v1"],
    );
    let renamed = DEPLOYMENT.replace("app: shop", "app: stall");
    refused(
        &[CONFIGURATION, &renamed, SERVICE],
        &["field is immutable", "at k8s/shop.yaml:12", "give the object another name"],
    );
    let tagged = DEPLOYMENT
        .replace("      - name: web\n", "      - { name: sidecar, image: \"envoy:v1\" }\n      - name: web\n");
    refused(
        &[CONFIGURATION, &tagged, SERVICE],
        &["the image `envoy:v1`, which can change after the test", "at k8s/shop.yaml:19"],
    );
    let unknown = SERVICE.replace("selector:", "sellector:");
    shop.manifests(&[CONFIGURATION, DEPLOYMENT, &unknown]);
    let ended = shop.repository.run(&["run", "--input", "version=2"]);
    assert!(ended.code != 0 && ended.stdout.contains("sellector"), "{}", ended.stdout);

    // A person has changed what the release sets.
    shop.kubectl(&["set", "image", "deployment/shop", "web=local/other@sha256:0", "--field-manager=ada"]);
    shop.manifests(&[CONFIGURATION, DEPLOYMENT, SERVICE]);
    let asked = shop.deploy("2", &[], 5).stdout;
    assert!(asked.contains("[web].image: local/other@sha256:0 (set by ada) instead of"), "{asked}");
    shop.repository.run(&["reject", "latest", "deploy"]).exits(0);
    shop.repository.run(&["resume", "latest"]).exits(6);
    let asked = shop.deploy("2", &[], 5).stdout;
    let field = format!("overwrite={}", crate::environment::after(&asked, "--field overwrite=", 8));
    shop.repository.run(&["approve", "latest", "deploy", "--field", &field]).exits(0);
    shop.repository.run(&["resume", "latest"]).exits(0);
    assert_eq!(shop.serves(), "version 2");
}

/// The cluster itself refuses a deploy that was overtaken, whatever the machine remembers that it runs on.
#[test]
#[ignore = "needs a cluster"]
fn a_deploy_with_an_older_token_is_refused() {
    let shop = Namespace::with_shop("");
    shop.deploy("1", &[], 0);
    shop.deploy("2", &[], 0);
    shop.deploy("3", &[], 0);
    let sqlite = "UPDATE environments SET fence = 1 WHERE name = 'production'";
    let database = shop.repository.root().join(".stagewright/stagewright.db").display().to_string();
    let update = format!("import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute({sqlite:?}); c.commit()");
    assert!(Command::new("python3").args(["-c", &update, &database]).status().expect("python3 starts").success());
    let refused = shop.deploy("4", &[], 1).stdout;
    assert!(refused.contains("a deploy of `shop` with the token 3, which is newer than 2, has acted"), "{refused}");
    assert_eq!(shop.serves(), "version 3");
}

#[test]
#[ignore = "needs a cluster"]
fn every_kind_of_workload_is_waited_for() {
    let shop = Namespace::with(&format!("{MANIFESTS}\nreadiness = {{ deadline = \"40s\" }}"));
    let pod = "containers: [{ name: web, image: web, readinessProbe: { httpGet: { port: 8080, path: /health }, periodSeconds: 1 } }]";
    let of = |kind: &str, more: &str| {
        format!(
            "\napiVersion: apps/v1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec:\n  {more}\n  \
             selector: {{ matchLabels: {{ app: {name} }} }}\n  template:\n    metadata: {{ labels: {{ app: {name} }} }}\n    \
             spec: {{ terminationGracePeriodSeconds: 1, {pod} }}\n",
            name = kind.to_lowercase()
        )
    };
    let job = |exit: &str| {
        format!(
            "\napiVersion: batch/v1\nkind: Job\nmetadata: {{ name: migrate }}\nspec:\n  backoffLimit: 0\n  template: {{ spec: {{ \
             restartPolicy: Never, containers: [{{ name: web, image: web, env: [{{ name: EXIT, value: \"{exit}\" }}] }}] }} }}\n"
        )
    };
    let sets = [of("StatefulSet", "serviceName: none"), of("DaemonSet", "minReadySeconds: 0")];
    shop.manifests(&[&sets[0], &sets[1], &job("0")]);
    shop.deploy("1", &[], 0);
    shop.deploy("2", &[], 0);
    assert_eq!(shop.objects("job"), ["job.batch/migrate-2"], "each release has a job of its own");
    assert_eq!(shop.field("statefulset/statefulset", ".status.updatedReplicas"), "1");
    assert_eq!(shop.field("daemonset/daemonset", ".status.updatedNumberScheduled"), "1");

    shop.manifests(&[&sets[0], &sets[1], &job("3")]);
    let failed = shop.deploy("3", &[], 1).stdout;
    assert!(failed.contains("job/migrate-3 failed (BackoffLimitExceeded)"), "{failed}");
    assert_eq!(shop.objects("job"), ["job.batch/migrate-2"]);

    // The job of a restored release has done its work.
    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(shop.objects("job"), Vec::<String>::new());
}
