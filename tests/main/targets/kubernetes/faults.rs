//! Faults of deploys to a cluster. Those of the credential are tested on a server that only has what a deploy asks for, since a
//! token of a real cluster lives for at least ten minutes.

use serde_json::json;

use super::{DEPLOYMENT, MANIFESTS, Namespace, PIPELINE, SERVICE};
use crate::environment::TestEnvironment;
use crate::targets::engine::deploy;
use crate::targets::faults::{deploy_two_at_once, gate_deploy};
use crate::targets::machine::Machine;

/// Keeps objects in memory. Workloads are ready at once. Arguments: a folder. Its file `token` has the token that is accepted,
/// and `expires-at` the method and path of the first request for which it isn't any more.
const SERVER: &str = r#"
import http.server, json, os, sys, urllib.parse
folder, objects, version = sys.argv[1], {}, 0
def read(name):
    path = os.path.join(folder, name)
    return open(path).read() if os.path.exists(path) else None
KINDS = {
    "/api/v1": [("configmaps", "ConfigMap"), ("services", "Service"), ("pods", "Pod"), ("secrets", "Secret")],
    "/apis/apps/v1": [("deployments", "Deployment"), ("replicasets", "ReplicaSet")],
    "/apis/autoscaling/v1": [("horizontalpodautoscalers", "HorizontalPodAutoscaler")],
}
class Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *words):
        pass
    def answer(self, status, body):
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def refuse(self, status, reason):
        self.answer(status, {"kind": "Status", "reason": reason, "message": reason})
    def keep(self, path, new):
        global version
        version += 1
        old = objects.get(path, {}).get("metadata", {})
        new["metadata"].update(uid=old.get("uid", f"uid-{version}"), resourceVersion=str(version), generation=version)
        if new["kind"] == "Deployment":
            count = new["spec"].get("replicas", 1)
            new["status"] = dict.fromkeys(["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"], count)
            new["status"]["observedGeneration"] = version
        objects[path] = new
        self.answer(200, new)
    def any(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        address = urllib.parse.urlsplit(self.path)
        path, query = address.path, urllib.parse.parse_qs(address.query)
        expires = read("expires-at")
        if expires == f"{self.command} {self.path}":
            open(os.path.join(folder, "token"), "w").write("none")
        if self.headers.get("authorization") != f"Bearer {read('token')}":
            return self.refuse(401, "Unauthorized")
        if path in KINDS:
            kinds = [{"name": name, "kind": kind, "namespaced": True} for name, kind in KINDS[path]]
            return self.answer(200, {"resources": kinds})
        if self.command == "PATCH":
            new = json.loads(body)
            if "dryRun" in query:
                return self.answer(200, new)
            return self.keep(path, new)
        if self.command == "POST":
            new = json.loads(body)
            path = f"{path}/{new['metadata']['name']}"
            return self.refuse(409, "AlreadyExists") if path in objects else self.keep(path, new)
        if path.rsplit("/", 1)[-1] in ("configmaps", "pods", "events", "horizontalpodautoscalers", "replicasets"):
            pairs = query.get("labelSelector", [""])[0].split(",")
            wanted = dict(pair.split("=") for pair in pairs if "=" in pair)
            found = [objects[own] for own in objects if own.startswith(path + "/")]
            of = lambda found: found["metadata"].get("labels", {}).items()
            return self.answer(200, {"items": [one for one in found if wanted.items() <= of(one)]})
        if path not in objects:
            return self.refuse(404, "NotFound")
        if self.command == "PUT":
            new = json.loads(body)
            if new["metadata"]["resourceVersion"] != objects[path]["metadata"]["resourceVersion"]:
                return self.refuse(409, "Conflict")
            return self.keep(path, new)
        self.answer(200, objects.pop(path) if self.command == "DELETE" else objects[path])
    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = any
http.server.HTTPServer(("127.0.0.1", 6443), Server).serve_forever()
"#;

/// A JSON Web Token that expired on 1 December 2025 at 05:00 UTC.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjE3NjQ1NjUyMDB9.c2lnbmF0dXJl";

fn kubeconfig(repository: &mut TestEnvironment, token: &str) {
    let config = json!({
        "current-context": "shop",
        "contexts": [{ "name": "shop", "context": { "cluster": "local", "user": "deployer" } }],
        "clusters": [{ "name": "local", "cluster": { "server": "http://127.0.0.1:6443" } }],
        "users": [{ "name": "deployer", "user": { "token": token } }],
    });
    repository.set("CONFIGURATION", &config.to_string());
}

#[test]
fn a_token_that_expires_in_the_middle_of_a_deploy_is_named_and_the_deploy_goes_on_with_another() {
    let machine = Machine::start();
    let folder = machine.path("cluster");
    std::fs::create_dir_all(&folder).expect("a folder");
    machine.write("cluster/token", TOKEN);
    let listens = |machine: &Machine| {
        let output = machine.command("curl").args(["-s", "http://127.0.0.1:6443"]).output().expect("curl starts");
        output.status.success()
    };
    machine.serve("python3", &["-c", SERVER, &folder.display().to_string()], listens);
    let image = format!("registry.example.org/shop@sha256:{}", "1".repeat(64));
    let pipeline = PIPELINE
        .replace("file:KUBECONFIG", "env:CONFIGURATION")
        .replace("SERVER", "127.0.0.1:6443")
        .replace("IMAGE_STAGES", "")
        .replace("needs = [\"push\"]\n", "")
        .replace("${{ stages.push.outputs.reference }}", &image)
        .replace("NAMESPACE", "shop")
        .replace("DEPLOY", MANIFESTS);
    let mut repository = machine.repository(&pipeline);
    let deployment = DEPLOYMENT.replace("        envFrom: [{ configMapRef: { name: shop } }]\n", "");
    repository.write("k8s/shop.yaml", &[&deployment, SERVICE].join("---"));
    kubeconfig(&mut repository, TOKEN);
    repository.run(&["grant", "--yes"]).exits(0);

    machine.write(
        "cluster/expires-at",
        "PATCH /apis/apps/v1/namespaces/shop/deployments/shop?fieldManager=stagewright&force=false",
    );
    let failed = deploy(&repository, "1", &[]).exits(1).stdout;
    for words in [
        "with 401 Unauthorized",
        "the token or certificate of [credentials.cluster] has expired, or isn't valid: renew its secret",
        "the token of the credential `cluster` expired ",
        " d ago, by this machine's clock",
    ] {
        assert!(failed.contains(words), "{words}: {failed}");
    }
    assert!(!failed.contains(TOKEN), "{failed}");
    std::fs::remove_file(machine.path("cluster/expires-at")).expect("a file");
    machine.write("cluster/token", "another");
    kubeconfig(&mut repository, "another");
    let resumed = repository.run(&["resume", "latest"]).exits(0).stdout;
    assert!(!resumed.contains("expired"), "{resumed}");
}

#[test]
#[ignore = "needs a cluster"]
fn of_two_deploys_at_once_the_newer_one_serves_at_the_end() {
    let shop = Namespace::with_shop("");
    shop.deploy("0", &[], 0);
    gate_deploy(&shop.repository);
    deploy_two_at_once(&shop.repository, "1", "2");
    assert_eq!((shop.serves().as_str(), &shop.record()["unfinished"]), ("version 2", &json!([])));
}

#[test]
#[ignore = "needs a cluster"]
fn an_image_that_no_registry_answers_for_leaves_the_earlier_release_serving() {
    let shop = Namespace::with_shop("readiness = { deadline = \"20s\" }");
    shop.deploy("1", &[], 0);
    let pipeline = shop.repository.read("stagewright.toml");
    let gone = format!("127.0.0.1:1/gone@sha256:{}", "1".repeat(64));
    shop.repository.write("stagewright.toml", &pipeline.replace("${{ stages.push.outputs.reference }}", &gone));
    let failed = shop.deploy("2", &[], 1).stdout;
    assert!(failed.contains("ErrImagePull") || failed.contains("ImagePullBackOff"), "{failed}");
    assert_eq!(shop.serves(), "version 1");
    // The nodes have the earlier image.
    shop.repository.write("stagewright.toml", &pipeline);
    shop.deploy("3", &[], 0);
    shop.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(shop.serves(), "version 1");
}
