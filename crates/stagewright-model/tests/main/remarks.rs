//! Remarks for reviewers on a stage's grants.

use stagewright_model::remarks;

use crate::{file, plan};

/// The remarks on the stage `a`.
fn on(permissions: &str) -> Vec<String> {
    let text = format!(
        "[secrets.token]\nfrom = 'env:T'\nhosts = ['npm.example', '*.corp']\nprograms = ['kubectl']\n\
         [stages.a]\nuses = 'noop'\n[stages.a.permissions]\n\
         {permissions}\n[stages.b]\nuses = 'path:plugins/mine'\npermissions = {{ net = ['npm'], secrets = ['token'] }}\n"
    );
    let plan = plan(&file(&text));
    let stage = plan.stages.iter().find(|stage| stage.name == "a").expect("it is there");
    remarks(&plan, stage, &["pipelines/x.toml"])
}

#[track_caller]
fn says(permissions: &str, expected: &[&str]) {
    assert_eq!(on(permissions), expected, "{permissions}");
}

#[test]
fn dangerous_grants_give_remarks() {
    says("read = ['.']\nprocess = ['cargo', 'git fetch **']\nwrite = ['target']", &[]);
    says(
        "socket = ['docker']",
        &["full control of this machine: through `docker`, programs can start anything as root"],
    );
    says(
        "socket = ['/run/podman/podman.sock', '/run/db.sock']",
        &["full control of this machine: through `/run/podman/podman.sock`, programs can start anything as root"],
    );
    says(
        "net = ['unix:///run/docker.sock', 'GET,HEAD unix:///run/docker.sock:/*/info', 'POST unix:///run/other.sock']",
        &["full control of this machine: by its requests to `/run/docker.sock`, the plugin can start anything as root"],
    );
    says("process = ['*']", &["can start any program on this machine"]);
    says("process = ['sh']", &["`sh` can run any program that it can access"]);
    says("process = ['/usr/bin/python3.12 *']", &["`/usr/bin/python3.12 *` can run any program that it can access"]);
    says("process = [\"sh -c 'make all'\"]", &[]);
    says("process = ['./tools/x']\nwrite = ['tools']", &["can replace `./tools/x`, which it may start"]);
}

#[test]
fn a_service_that_other_machines_reach_gives_a_remark() {
    says("service = [\"app\", \"app:8080\"]", &[]);
    says("service = [\"app:0.0.0.0:80\"]", &["`app` is reached at 0.0.0.0:80 from other machines, without encryption"]);
}

#[test]
fn write_access_to_pipelines_and_plugins_gives_remarks() {
    says("write = ['pipelines']", &["can change what runs next: it may write `pipelines/x.toml`"]);
    says("write = ['plugins/*']", &["can change what runs next: it may write `plugins/mine`"]);
    says("write = ['.git']", &["can change what runs next: it may write `.git`"]);
    says("write = ['.npmrc']", &["can change which hosts `npm` stands for: it may write `.npmrc`"]);
    says(
        "write = ['.']",
        &[
            "can change what runs next: it may write `pipelines/x.toml`, `stagewright.lock`, `plugins/mine`, `stagewright.toml`",
            "can change which hosts `npm` stands for: it may write `.npmrc`",
        ],
    );
}

#[test]
fn secrets_that_can_be_sent_elsewhere_give_remarks() {
    says("secrets = ['token']\nprocess = ['kubectl']", &[]);
    says("secrets = ['token:header']\nprocess = ['kubectl']\nnet = ['https://k8s.example']", &[]);
    says(
        "secrets = ['token']\nprocess = ['kubectl apply *']\nnet = ['https://k8s.example']",
        &["programs can get the secret `token`, and could send it to https://k8s.example"],
    );
    says(
        "secrets = ['token']\nprocess = ['kubectl']\nnet = ['https://k8s.example', 'pip']",
        &[
            "programs can get the secret `token`, and could send it to https://k8s.example, pip, including uploads to package hosts",
        ],
    );
}

#[test]
fn secret_that_the_proxy_adds_gives_a_remark() {
    says(
        "secrets = ['token:proxy']\nprocess = ['npm']\nnet = ['npm']",
        &["programs can download everything from npm.example, *.corp that the secret `token` gives access to"],
    );
}
