//! A rehearsal checks the objects of a release against a description of the cluster's API, from a file or from the cluster.

use std::process::Command;

use super::Namespace;
use crate::environment::TestEnvironment;
use crate::targets::aws::program;

/// The kubeconfig is never read: a rehearsal has no secrets.
const PIPELINE: &str = r#"
schema = 1
[pipeline]
name = "checked"

[environments.production]
target = "kubernetes"

[secrets.kubeconfig]
from = "file:/nonexistent"
hosts = ["k8s.example.org"]
[credentials.cluster]
type = "kubeconfig"
file = "kubeconfig"

[stages.deploy]
uses = "deploy"
environment = "production"
[stages.deploy.with]
service = "shop"
credential = "cluster"
manifests = ["k8s/*.yaml"]
schema = "schema/kubernetes.json"
[stages.deploy.permissions]
credentials = ["cluster"]
read = ["k8s/*.yaml", "schema/kubernetes.json"]
"#;

const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: { name: shop }
spec:
  replicas: 2
  selector: { matchLabels: { app: shop } }
  template:
    metadata: { labels: { app: shop } }
    spec:
      containers:
      - name: web
        image: registry.example.org/shop@sha256:0000000000000000000000000000000000000000000000000000000000000000
        resources: { limits: { cpu: 1, memory: 256Mi } }
        ports: [{ containerPort: 8080 }]
        readinessProbe: { httpGet: { port: http, path: /health } }
";

const AUTOSCALER: &str = "apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: { name: shop }
spec:
  scaleTargetRef: { apiVersion: apps/v1, kind: Deployment, name: shop }
  minReplicas: 2
  maxReplicas: 5
  metrics:
  - { type: Resource, resource: { name: cpu, target: { type: Utilization, averageUtilization: 70 } } }
";

const INGRESS: &str = "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: { name: shop, annotations: { note: text } }
spec:
  rules:
  - host: shop.example.org
    http: { paths: [{ path: /, pathType: Prefix, backend: { service: { name: shop, port: { number: 80 } } } }] }
";

/// The published definitions of Kubernetes 1.27.
fn definitions() -> String {
    let find = "import os, kubernetes_validate as found
print(os.path.join(os.path.dirname(found.__file__), 'kubernetes-json-schema/v1.27.0-local/_definitions.json'))";
    let found = Command::new(program("python")).args(["-c", find]).output().expect("a path");
    let path = String::from_utf8(found.stdout).expect("text");
    // A cluster publishes them under the name of an earlier version of JSON Schema.
    std::fs::read_to_string(path.trim()).expect("definitions").replacen("$defs", "definitions", 1)
}

#[test]
fn objects_are_checked_against_the_schema_before_anything_is_applied() {
    let shop = TestEnvironment::with_pipeline(PIPELINE);
    shop.write("schema/kubernetes.json", &definitions());
    let rehearse = |objects: &[&str], code: i32| {
        shop.write("k8s/shop.yaml", &objects.join("---\n"));
        shop.run(&["run", "--rehearse"]).exits(code).stdout
    };
    let good = rehearse(&[DEPLOYMENT, AUTOSCALER, INGRESS], 0);
    assert!(good.contains("would deploy shop to production: 4 parts new"), "{good}");

    for (object, from, to, line, message) in [
        (
            DEPLOYMENT,
            "replicas: 2",
            "replicas: two",
            5,
            "`spec.replicas` is the string \"two\", and must be an integer",
        ),
        (DEPLOYMENT, "replicas", "replica", 5, "did you mean `replicas`?"),
        (DEPLOYMENT, "containerPort", "port", 14, "`spec.template.spec.containers[0].ports[0]` lacks `containerPort`"),
        (DEPLOYMENT, "httpGet", "httpget", 15, "did you mean `httpGet`?"),
        (AUTOSCALER, "maxReplicas", "max", 5, "`spec` lacks `maxReplicas`"),
        (
            AUTOSCALER,
            "autoscaling/v2",
            "autoscaling/v2beta2",
            1,
            "no `HorizontalPodAutoscaler` in `autoscaling/v2beta2`",
        ),
        (INGRESS, "number: 80", "number: http", 7, "port.number` is the string \"http\", and must be an integer"),
        (INGRESS, "note: text", "note: 1", 3, "`metadata.annotations.note` is `1`, and must be a string"),
    ] {
        let bad = rehearse(&[&object.replacen(from, to, 1)], 1);
        assert!(bad.contains(message), "{to}: {bad}");
        assert!(bad.contains(&format!("k8s/shop.yaml:{line}")), "{to}: {bad}");
    }

    shop.write("schema/kubernetes.json", "{}");
    let other = rehearse(&[DEPLOYMENT], 1);
    assert!(other.contains("kubectl get --raw /openapi/v2 > schema/kubernetes.json"), "{other}");
}

#[test]
#[ignore = "needs a cluster"]
fn a_rehearsal_that_may_ask_the_cluster_checks_the_objects_against_its_own_schema() {
    let shop = Namespace::with_shop("");
    let text = shop.repository.read("stagewright.toml");
    let may_ask = "\n[stages.deploy.rehearse]\npermissions = { credentials = [\"cluster\"] }\n";
    shop.repository.write("stagewright.toml", &format!("{text}{may_ask}"));
    shop.repository.run(&["grant", "--yes"]).exits(0);
    let rehearse = |objects: &[&str], code: i32| {
        shop.manifests(objects);
        shop.repository.run(&["run", "--rehearse", "--input", "version=1"]).exits(code).stdout
    };
    let good = rehearse(&[super::CONFIGURATION, super::DEPLOYMENT, super::SERVICE], 0);
    assert!(good.contains("would deploy shop to production: 4 parts new"), "{good}");
    let wrong = super::DEPLOYMENT.replace("maxSurge", "maxSurges");
    let bad = rehearse(&[super::CONFIGURATION, &wrong, super::SERVICE], 1);
    assert!(
        bad.contains("rollingUpdate.maxSurges` is a field that the cluster doesn't have; did you mean `maxSurge`?"),
        "{bad}"
    );
    let newer = rehearse(&[super::CONFIGURATION, super::DEPLOYMENT, super::SERVICE, &format!("\n{AUTOSCALER}")], 1);
    assert!(newer.contains("use autoscaling/v1 or autoscaling/v2beta1 or autoscaling/v2beta2"), "{newer}");
    assert_eq!(shop.objects("deployment"), [""; 0]);
}
