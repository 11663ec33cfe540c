//! The target `docker` behind nginx, which runs in a container of the same engine.

use std::io::Read as _;
use std::process::Stdio;
use std::time::Duration;

use super::Docker;
use crate::environment::eventually;
use crate::targets::load::Load;

const NGINX: &str = r#"
traffic = { nginx = { container = "edge", servers = "/etc/nginx/traffic/app.servers", socket = "SOCKET" } }
"#;

/// The configuration of nginx. HTTP and LOCATION are replaced.
const CONFIG: &str = r"
daemon off;
worker_processes 2;
error_log /dev/stderr;
pid /run/nginx.pid;
events {}
http {
  access_log off;
  HTTP
  server { listen 127.0.0.1:8000; location / { LOCATION } }
}
";

const UPSTREAM: &str = "upstream app { zone app 64k; include /etc/nginx/traffic/app.servers; }";
const PROXY: &str = "proxy_pass http://app; proxy_buffering off;";

/// What an administrator writes for an upstream that has no release yet.
const NO_SERVER: &str = "server 127.0.0.1:1 down;\n";

/// The file with the servers, in nginx's container.
const SERVERS: &str = "etc/nginx/traffic/app.servers";

/// With nginx in front, which serves on port 8000.
fn behind_nginx(deploy: &str, http: &str, location: &str, servers: &str) -> Docker {
    start_nginx(NGINX, deploy, http, location, servers, "")
}

fn start_nginx(traffic: &str, deploy: &str, http: &str, location: &str, servers: &str, routes: &str) -> Docker {
    let docker = Docker::with(&format!("{traffic}{deploy}"));
    let config = CONFIG.replace("HTTP", http).replace("LOCATION", location);
    let files = [
        ("etc/passwd", "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n"),
        ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("etc/nginx/nginx.conf", config.as_str()),
        (SERVERS, servers),
        ("etc/nginx/traffic/app.routes", routes),
        ("run/empty", ""),
        ("var/lib/nginx/empty", ""),
        ("var/log/nginx/empty", ""),
    ];
    docker.run_edge(&["/usr/sbin/nginx"], &["/usr/sbin/nginx"], &files);
    eventually("nginx accepts connections", || docker.is_up().then_some(()));
    docker
}

fn servers(docker: &Docker) -> String {
    docker.docker(&["cp", &format!("edge:/{SERVERS}"), "-"])
}

const CANARY: &str = r#"
drain = "500ms"
strategy = { canary = { steps = [{ set-weight = 20 }, { pause = {} }, { set-weight = 60 }, { pause = { duration = "1s" } }] } }
"#;

#[test]
fn a_canary_behind_nginx_gets_its_share_and_no_request_fails() {
    let docker = behind_nginx(CANARY, UPSTREAM, PROXY, NO_SERVER);
    docker.roll_canaries_out_behind_edge();
    assert_eq!(docker.containers(), ["edge", "versioned"]);

    // What the deploy set outlives nginx.
    docker.docker(&["restart", "edge"]);
    eventually("nginx serves again", || docker.behind().filter(|answer| answer == "version 1"));
}

const BLUE_GREEN: &str = r#"
drain = "4s"
strategy = { blue-green = { auto-promotion-enabled = false, scale-down-delay = "1s" } }
"#;

#[test]
fn blue_green_behind_nginx_fails_no_request_and_lets_those_in_flight_end() {
    let docker = behind_nginx(BLUE_GREEN, UPSTREAM, PROXY, NO_SERVER);
    docker.deploy("1", &[], 5);
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    docker.deploy("2", &[], 5);
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["version 1"], "nothing before the promotion");
    // Two seconds long, so that it ends after the switch.
    let mut slow = docker.engine.machine.command("curl");
    let mut slow = slow.args(["-s", "http://127.0.0.1:8000/slow"]).stdout(Stdio::piped()).spawn().expect("curl starts");
    std::thread::sleep(Duration::from_millis(300));
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    let mut answer = String::new();
    slow.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("text");
    assert!(slow.wait().expect("an end").success());
    assert_eq!(answer.matches("version 1;").count(), 10, "{answer}");
    assert_eq!(docker.behind().as_deref(), Some("version 2"));
    docker.repository.run(&["rollback", "production"]).exits(0);
    assert_eq!(docker.behind().as_deref(), Some("version 1"));
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1", "version 2"], "{answers:?}");
}

const BY_HEADER: &str = r#"
drain = "500ms"
[[stages.deploy.with.strategy.canary.steps]]
[stages.deploy.with.strategy.canary.steps.set-header-route]
name = "testers"
match = [
  { header-name = "X-Canary", header-value = { exact = "a.b\"c" } },
  { header-name = "X-Canary", header-value = { prefix = "v2" } },
  { header-name = "Cookie", header-value = { regex = '(.*;\s*)?canary=(yes|\d+)(;.*)?' } },
]
[[stages.deploy.with.strategy.canary.steps]]
pause = {}
[[stages.deploy.with.strategy.canary.steps]]
set-header-route = { name = "testers" }
[[stages.deploy.with.strategy.canary.steps]]
pause = {}
"#;

#[test]
fn a_canary_behind_nginx_gets_requests_by_their_headers() {
    let routes = "map \"\" $app_route { default app; }\n";
    let http = format!("{UPSTREAM} include /etc/nginx/traffic/app.routes;");
    let traffic = NGINX
        .replace("socket =", "routes = { file = \"/etc/nginx/traffic/app.routes\", upstream = \"app\" }, socket =");
    let docker =
        start_nginx(&traffic, BY_HEADER, &http, &PROXY.replace("http://app", "http://$app_route"), NO_SERVER, routes);
    docker.deploy("1", &[], 5);
    docker.repository.run(&["rollout", "promote", "production", "--full"]).exits(0);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    docker.deploy("2", &[], 5);
    let answer =
        |header: &str| docker.engine.machine.run("curl", &["-sf", "--header", header, "http://127.0.0.1:8000/"]);
    for header in ["x-canary: a.b\"c", "X-Canary: v2-beta", "Cookie: a=1; canary=17", "Cookie: canary=yes; b=2"] {
        assert_eq!(answer(header), "version 2", "{header}");
    }
    for header in ["X-Canary: a.b\"cd", "X-Canary: aXb\"c", "X-Canary: xv2", "Cookie: canary=no", "Accept: v2"] {
        assert_eq!(answer(header), "version 1", "{header}");
    }
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["version 1"], "it has no weight");
    docker.repository.run(&["rollout", "promote", "production"]).exits(5);
    assert_eq!(answer("X-Canary: v2-beta"), "version 1", "the route is removed");
    docker.repository.run(&["rollout", "promote", "production"]).exits(0);
    assert_eq!(answer("X-Canary: other"), "version 2");
    let answers = load.answers();
    assert_eq!(answers.keys().collect::<Vec<_>>(), ["version 1", "version 2"], "{answers:?}");
    assert!(docker.docker(&["cp", "edge:/etc/nginx/traffic/app.routes", "-"]).contains(routes), "no route is left");
}

#[test]
fn a_file_that_nginx_refuses_changes_nothing() {
    // An administrator has included the file outside of an upstream, where a server has another meaning.
    let misplaced = "include /etc/nginx/traffic/app.servers;";
    let docker = behind_nginx("", misplaced, "return 200 \"by hand\";", "# none\n");
    let before = servers(&docker);
    let mut load = Load::on(&docker.engine.machine, 8000, "/");
    let refused = docker.deploy("1", &[], 1).stdout;
    assert!(refused.contains("nginx in edge refused the files in /etc/nginx/traffic"), "{refused}");
    assert!(refused.contains("in /etc/nginx/traffic/app.servers:2"), "{refused}");
    assert_eq!(servers(&docker), before);
    assert_eq!(docker.containers(), ["edge"]);
    // nginx starts with what it has.
    assert_eq!(load.answers().keys().collect::<Vec<_>>(), ["by hand"]);
    docker.docker(&["restart", "edge"]);
    eventually("nginx serves again", || docker.behind().filter(|answer| answer == "by hand"));

    let docker = behind_nginx("", "", "return 200 \"by hand\";", NO_SERVER);
    let unread = docker.deploy("1", &[], 1).stdout;
    assert!(unread.contains("nginx in edge doesn't read /etc/nginx/traffic/app.servers"), "{unread}");
    assert!(unread.contains("include /etc/nginx/traffic/app.servers;"), "{unread}");
    assert_eq!(docker.containers(), ["edge"]);
}
