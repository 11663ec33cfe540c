//! Valid files and their plans.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use stagewright_model::{
    Backoff, CacheUse, InputKind, Limits, PathRule, Permission, PermissionSet, PluginRef, ProcessRule, Queue, Retry,
    RetryCause, Sandbox, StageIndex, StageKind, Trust, file_reference,
};

use crate::{errors, file, parse, plan, render};

const RELEASE: &str = r#"
schema = 1

[pipeline]
name = "release"
[on]
push = { branches = ["main"], tags = ["v*"] }
schedule = ["0 2 * * *"]

[inputs.version]
type = "string"
default = "dev"

[secrets.registry-token]
from  = "env:REGISTRY_TOKEN"
hosts = ["ghcr.io"]

[environments.production]
target    = "process"
url       = "https://api.example.org"
config    = ["config/base.toml", "config/production.toml"]
approvers = ["team:release"]

[teams]
release = ["ada", "grace"]

[stages.deploy-production]
uses        = "deploy"
needs       = ["push"]
environment = "production"
if          = "event.ref.startsWith('refs/tags/v')"
with        = { image = "${{ stages.push.outputs.image }}@${{ stages.push.outputs.digest }}" }

[stages.test]
uses    = "cargo-test"
with    = { args = ["--workspace"] }
inputs  = ["crates/**", "Cargo.lock"]
timeout = "20m"
retry   = { max = 2, on = ["lost", "timeout"] }

[stages.test.permissions]
process = ["cargo"]
read    = ["."]
write   = ["target"]
net     = ["cargo"]

[stages.push]
uses  = "path:plugins/push"
needs = ["image"]
permissions = { secrets = ["registry-token"], registry = ["local/app"] }

[stages.image]
uses  = "build-image"
needs = ["test"]
with  = { files = ["target/release/app"], entrypoint = ["/app"], tags = ["${{ inputs.version }}"] }
"#;

#[test]
fn limits_sandbox_and_sockets_are_parsed() {
    let text = "[stages.a]\nuses = 'noop'\npermissions.socket = ['docker', '/run/a.sock']\n[stages.a.limits]\n\
                cpu = '90s'\nprocess-memory = '4GiB'\nprocesses = 64\nlog-lines = 5000\nartifacts = '1MB'\n\
                workspace = '2MB'\nrequests = 4\n[stages.b]\nuses = 'noop'\n";
    let one = plan(&file(text).replace("pipeline.name", "pipeline.sandbox = 'preferred'\npipeline.name"));
    assert_eq!((one.sandbox, plan(&file(text)).sandbox), (Sandbox::Preferred, Sandbox::Required));
    assert_eq!(one.stages[0].permissions.socket, ["docker", "/run/a.sock"].map(|socket| socket.parse().unwrap()));
    let limits = Limits {
        cpu: Some(Duration::from_secs(90)),
        process_memory: Some(4 << 30),
        processes: Some(64),
        log_lines: Some(5000),
        artifacts: Some(1_000_000),
        workspace: Some(2_000_000),
        requests: Some(4),
    };
    assert_eq!((one.stages[0].limits, one.stages[1].limits), (limits, Limits::default()));
}

#[test]
fn release_pipeline_is_parsed_completely() {
    let (plan, warnings) = parse(RELEASE);
    assert!(warnings.iter().all(|warning| warning.code() == "stagewright::no-effect"), "{}", render(&warnings));
    assert_eq!(plan.name, "release");
    assert_eq!(plan.triggers.push.as_ref().expect("it is given").tags, ["v*"]);
    assert!(plan.triggers.manual && plan.triggers.pull_request.is_none());
    assert_eq!(plan.inputs["version"].kind, InputKind::String);
    assert_eq!(plan.inputs["version"].default, Some(json!("dev")));
    assert_eq!(plan.secrets["registry-token"].hosts, ["ghcr.io".parse().unwrap()]);
    assert_eq!(plan.environments["production"].approvers, ["team:release"]);
    assert_eq!(plan.teams["release"], ["ada", "grace"]);

    let ids: Vec<_> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(ids, ["test", "image", "push", "deploy-production"]);
    let test = plan.stage(StageIndex(0));
    assert_eq!(test.uses, PluginRef::Builtin("cargo-test".to_owned()));
    assert_eq!(*test.with.source(), json!({ "args": ["--workspace"] }));
    assert_eq!(test.timeout, Some(Duration::from_secs(1200)));
    let on = vec![RetryCause::Lost, RetryCause::Timeout];
    assert_eq!(*test.retry, Retry { max: 2, on, backoff: Backoff::default() });
    assert_eq!(test.permissions.write, ["target".parse().unwrap()]);
    assert_eq!(&RELEASE[test.location.start..test.location.end], "[stages.test]");
    assert_eq!(RELEASE.lines().nth(test.line - 1), Some("[stages.test]"));
    let deploy = plan.stage(StageIndex(3));
    assert_eq!(deploy.needs, [StageIndex(2)]);
    assert_eq!(deploy.environment.as_ref().map(|environment| environment.name.as_str()), Some("production"));
    assert!(deploy.condition.is_some());
    assert_eq!(plan.graph.edge_count(), 3);
}

#[test]
fn deploy_is_the_plugin_of_the_environments_target() {
    let (plan, _) = parse(&file(
        "environments.here.target = 'process'\nenvironments.own.target = 'path:plugins/mine'\n\
         [stages.a]\nuses = 'deploy'\nenvironment = 'here'\n\
         [stages.b]\nuses = 'deploy'\nenvironment = { name = 'own' }\n\
         [stages.c]\nuses = 'deploy-process'\n[stages.d]\nuses = 'noop'\nenvironment = 'here'\n",
    ));
    let uses = plan.stages.iter().map(|stage| stage.uses.to_string()).collect::<Vec<_>>();
    assert_eq!(uses, ["deploy-process", "path:plugins/mine", "deploy-process", "noop"]);
}

#[test]
fn every_key_of_a_stage_is_in_the_plan() {
    let digest = format!("sha256:{}", "0a".repeat(32));
    let text = file(&format!(
        r#"
        env = {{ SHARED = "1", BOTH = "pipeline" }}
        concurrency = {{ group = "deploy-${{{{ inputs.to }}}}", cancel-in-progress = true, queue = "max", hold-at-gates = true }}
        [on.pull-request]
        paths = ["src/**"]
        paths-ignore = ["src/**/*.md"]
        [inputs.to]
        type = "choice"
        options = ["a", "b"]
        [environments.staging]
        target = "process"
        protected = true
        [stages.one]
        uses = "path:one.so"
        trust = "native"
        digest = "{digest}"
        retry = 3
        memory = "256MiB"
        log-limit = "1MB"
        continue-on-error = true
        environment = {{ name = "staging", url = "http://${{{{ inputs.to }}}}" }}
        env = {{ BOTH = "stage", PORT = 8080, DEBUG = true }}
        outputs = ["dist/**"]
        with.when = 1979-05-27
        [stages.two]
        uses = "noop"
        retry = {{ max = 1, backoff = "5s" }}
        [stages.three]
        uses = "noop"
        retry = {{ max = 1, backoff = {{ initial = "2m", factor = 3 }} }}
        "#
    ));
    let plan = plan(&text);
    let (one, two, three) = (&plan.stages[0], &plan.stages[1], &plan.stages[2]);
    assert_eq!(one.trust, Trust::Native { digest });
    assert_eq!(one.retry.max, 3);
    assert_eq!((one.memory, one.log_limit), (Some(256 << 20), Some(1_000_000)));
    assert!(one.continue_on_error);
    let url = one.environment.as_ref().and_then(|environment| environment.url.as_ref());
    assert_eq!(url.map(|url| url.source()), Some("http://${{ inputs.to }}"));
    let env: HashMap<_, _> = one.env.iter().map(|(name, value)| (name.as_str(), value.source())).collect();
    assert_eq!(env, HashMap::from([("SHARED", "1"), ("BOTH", "stage"), ("PORT", "8080"), ("DEBUG", "true")]));
    assert_eq!(*one.with.source(), json!({ "when": "1979-05-27" }));
    assert_eq!(two.env.len(), 2);
    let constant = Backoff { initial: Duration::from_secs(5), factor: 1, max: Duration::from_secs(5) };
    assert_eq!(two.retry.backoff, constant);
    let growing = Backoff { initial: Duration::from_secs(120), factor: 3, max: Duration::from_secs(120) };
    assert_eq!(three.retry.backoff, growing);
    let concurrency = plan.concurrency.expect("it is given");
    assert!(concurrency.cancel_in_progress && concurrency.hold_at_gates && concurrency.queue == Queue::Max);
    let pull_request = plan.triggers.pull_request.as_ref().expect("it is given");
    assert_eq!((pull_request.branches.len(), pull_request.paths.paths[0].as_str()), (0, "src/**"));
    assert_eq!(pull_request.paths.ignored[0].as_str(), "src/**/*.md");
    assert!(plan.triggers.push.is_none());
    assert!(plan.environments["staging"].protected);
}

#[test]
fn need_on_a_matrix_is_a_need_on_each_cell() {
    let plan = plan(&file(
        r#"
        [stages.report]
        uses = "noop"
        needs = ["test"]
        with = { text = "${{ stages.test.result }}" }
        [stages.test]
        uses = "noop"
        matrix = { os = ["linux", "macos"], rust = ["stable", 1.95], exclude = [{ os = "macos", rust = 1.95 }], max-parallel = 2 }
        with = { os = "${{ matrix.os }}" }
        "#,
    ));
    let ids: Vec<_> = plan.stages.iter().map(|stage| stage.id.as_str()).collect();
    assert_eq!(
        ids,
        ["test (os=linux, rust=stable)", "test (os=linux, rust=1.95)", "test (os=macos, rust=stable)", "report"]
    );
    assert_eq!(plan.named("test").collect::<Vec<_>>(), [StageIndex(0), StageIndex(1), StageIndex(2)]);
    assert_eq!(plan.named("report").collect::<Vec<_>>(), [StageIndex(3)]);
    assert_eq!(plan.named("other").count(), 0);
    assert_eq!(plan.stages[3].needs, [StageIndex(0), StageIndex(1), StageIndex(2)]);
    let cell = plan.stages[1].matrix.as_ref().expect("it is a cell");
    assert_eq!(cell.values["rust"], json!(1.95));
    assert!(cell.fail_fast);
    assert_eq!(cell.max_parallel, Some(2));
}

#[test]
fn finally_stages_come_last_and_can_read_any_result() {
    let plan = plan(&file(
        r#"
        [finally.second]
        uses = "noop"
        needs = ["first"]
        if = "stages.work.result != 'succeeded' && stages.first.result == 'succeeded'"
        [finally.first]
        uses = "noop"
        [stages.work]
        uses = "noop"
        "#,
    ));
    let stages: Vec<_> = plan.stages.iter().map(|stage| (stage.name.as_str(), stage.kind)).collect();
    use StageKind::{Finally, Main};
    assert_eq!(stages, [("work", Main), ("first", Finally), ("second", Finally)]);
}

#[test]
fn results_of_indirect_needs_can_be_read() {
    let plan = plan(&file(
        r#"
        stages.a = { uses = "noop" }
        stages.b = { uses = "noop", needs = ["a"] }
        stages.c = { uses = "noop", needs = ["b"] }
        stages.d = { uses = "noop", needs = ["c"], if = "stages.a.outputs.go && has(stages['b'].outputs.x)" }
        "#,
    ));
    assert_eq!(plan.stages.len(), 4);
}

#[test]
fn stages_keep_the_order_of_the_file_where_needs_allow() {
    let plan = plan(&file(
        r#"
        stages.zeta = { uses = "noop" }
        stages.late = { uses = "noop", needs = ["alpha"] }
        stages.mid = { uses = "noop" }
        stages.alpha = { uses = "noop" }
        "#,
    ));
    let names: Vec<_> = plan.stages.iter().map(|stage| stage.name.as_str()).collect();
    assert_eq!(names, ["zeta", "mid", "alpha", "late"]);
}

#[test]
fn overlapping_freezes_end_with_the_last_of_them() {
    let plan = plan(&file(
        r#"
        [environments.production]
        target = "process"
        [[environments.production.freeze]]
        from = 2026-12-18T17:00:00+01:00
        until = 2027-01-04T08:00:00Z
        reason = "holidays"
        [[environments.production.freeze]]
        weekly = "Fri 16:00 - Mon 08:00"
        time-zone = "Europe/Berlin"
        reason = "weekend"
        [stages.deploy]
        uses = "deploy"
        environment = "production"
        "#,
    ));
    let production = &plan.environments["production"];
    let frozen = |at| production.frozen(at).map(|frozen| (frozen.until, frozen.reason));
    // 2026-12-18, a Friday: 15:00Z and 16:00Z are 16:00 and 17:00 in Berlin.
    let (friday, january) = (1797606000000, 1799049600000);
    assert_eq!(frozen(friday - 1), None);
    // The weekend freeze ends during the holidays, which extend it.
    assert_eq!(frozen(friday), Some((january, "weekend".to_owned())));
    assert_eq!(frozen(friday + 3_600_000), Some((january, "holidays".to_owned())));
    // The last weekend freeze ends an hour before the holidays do: at 08:00 in Berlin.
    assert_eq!(frozen(january - 1), Some((january, "holidays".to_owned())));
    assert_eq!(frozen(january), None);
}

#[test]
fn compensated_stages_can_be_indirect_needs_and_matrices() {
    let plan = plan(&file(
        r#"
        stages.smoke = { uses = "noop", needs = ["wait"], compensate = ["deploy", "build"] }
        stages.wait = { uses = "noop", needs = ["deploy"] }
        stages.deploy = { uses = "deploy-process", needs = ["build"], matrix = { region = ["eu", "us"] } }
        stages.build = { uses = "noop" }
        "#,
    ));
    let smoke = plan.named("smoke").next().expect("it is there");
    let ids: Vec<_> = plan.stage(smoke).compensate.iter().map(|&stage| plan.stage(stage).id.as_str()).collect();
    assert_eq!(ids, ["deploy (region=eu)", "deploy (region=us)", "build"]);
    assert!(plan.stages.iter().filter(|stage| stage.name != "smoke").all(|stage| stage.compensate.is_empty()));
}

/// With quadratic time, this would take minutes.
#[test]
fn planning_100000_stages_takes_linear_time() {
    use std::fmt::Write;
    const COUNT: usize = 100_000;
    let mut tables = String::new();
    for index in 0..COUNT {
        let needs = match index.checked_sub(1) {
            None => String::new(),
            Some(before) => format!("needs = [\"s{before}\"]\n"),
        };
        // Some read a result from the start of the chain.
        let needs = if index % 1000 == 999 { needs + "if = \"stages.s0.result == 'succeeded'\"\n" } else { needs };
        writeln!(tables, "[stages.s{index}]\nuses = \"noop\"\n{needs}with = {{ index = {index} }}").expect("it fits");
    }
    let plan = plan(&file(&tables));
    assert_eq!(plan.stages.len(), COUNT);
    assert_eq!(plan.stages[COUNT - 1].needs, [StageIndex(u32::try_from(COUNT - 2).expect("it fits"))]);
}

fn dag() -> impl Strategy<Value = Vec<Vec<usize>>> {
    // Each stage needs some of those before it in a random order, which differs from the order of the file.
    (1_usize..24)
        .prop_flat_map(|count| {
            let order = Just((0..count).collect::<Vec<_>>()).prop_shuffle();
            (order, proptest::collection::vec(any::<u32>(), count))
        })
        .prop_map(|(order, masks)| {
            let mut needs = vec![Vec::new(); order.len()];
            for (rank, &position) in order.iter().enumerate() {
                needs[position] =
                    (0..rank).filter(|bit| masks[position] >> bit & 1 == 1).map(|bit| order[bit]).collect();
            }
            needs
        })
}

proptest! {
    #[test]
    fn any_dag_is_planned_in_topological_order(needs in dag()) {
        let tables: Vec<_> = needs
            .iter()
            .enumerate()
            .map(|(position, needs)| {
                let needs: Vec<_> = needs.iter().map(|need| format!("\"s{need}\"")).collect();
                format!("stages.s{position} = {{ uses = \"noop\", needs = [{}] }}\n", needs.join(", "))
            })
            .collect();
        let plan = plan(&file(&tables.concat()));
        prop_assert_eq!(plan.stages.len(), needs.len());
        for index in plan.indices() {
            let stage = plan.stage(index);
            prop_assert!(stage.needs.iter().all(|need| *need < index));
            let position: usize = stage.name[1..].parse().expect("names are made of positions");
            let named: Vec<_> = stage.needs.iter().map(|need| plan.stage(*need).name.clone()).collect();
            let expected: Vec<_> = needs[position].iter().map(|need| format!("s{need}")).collect();
            prop_assert_eq!(named, expected);
        }
        prop_assert_eq!(plan.graph.edge_count(), needs.iter().map(Vec::len).sum::<usize>());
        let edges = plan.graph.raw_edges();
        prop_assert!(edges.iter().all(|edge| edge.source() < edge.target()), "{:?}", edges);
    }
}

#[test]
fn stage_with_inputs_is_cached_by_default_unless_it_has_external_effects() {
    let cached = |rest: &str| {
        let plan = plan(&file(&format!("[secrets.t]\nfrom = 'env:T'\n[stages.a]\nuses = 'noop'\n{rest}\n")));
        plan.stages[0].cache
    };
    let inputs = "inputs = ['src/**']\n";
    for (rest, expected) in [
        ("", CacheUse::Never),
        ("outputs = ['dist']", CacheUse::Never),
        ("cache = true", CacheUse::ReadWrite),
        ("cache = 'read'", CacheUse::Read),
        (inputs, CacheUse::ReadWrite),
        ("inputs = ['src']\ncache = false", CacheUse::Never),
        ("inputs = ['src']\npermissions = { net = ['cargo', 'npm'] }", CacheUse::ReadWrite),
        ("inputs = ['src']\npermissions = { net = ['https://example.org'] }", CacheUse::Never),
        ("inputs = ['src']\npermissions = { secrets = ['t'] }", CacheUse::Never),
        ("inputs = ['src']\npermissions = { secrets = ['t:proxy'], net = ['npm'] }", CacheUse::ReadWrite),
        ("inputs = ['src']\npermissions = { service = ['app'] }", CacheUse::Never),
    ] {
        assert_eq!(cached(rest), expected, "{rest}");
    }
}

#[test]
fn version_written_as_a_number_gives_a_warning() {
    let text = file("[env]\nGO = 1.20\n[stages.a]\nuses = 'noop'\nmatrix = { py = [3.9, 3.10, 1.0, '3.10', 2e10] }\n");
    let (_, warnings) = parse(&text);
    let messages: Vec<&str> = warnings.iter().map(|warning| warning.message()).collect();
    let becomes =
        |written: &str, read: &str| format!("`{written}` is a number and becomes {read} when it is used as text");
    assert_eq!(messages, [becomes("1.20", "1.2"), becomes("3.10", "3.1")]);
}

#[test]
fn a_stage_gets_the_entries_of_the_sets_that_it_uses() {
    let plan = plan(&file(
        "[permission-sets.docs]\nread = ['docs', 'src']\nwrite = ['book']\n\
         [permission-sets.go]\nprocess = ['go build']\n\
         [stages.own]\nuses = 'noop'\n[stages.own.permissions]\nuse = ['docs', 'rust', 'go']\nread = ['src']\n",
    ));
    let stage = &plan.stages[0];
    let strings = |rules: &[PathRule]| rules.iter().map(|rule| rule.as_str().to_owned()).collect::<Vec<_>>();
    assert_eq!(strings(&stage.permissions.read), ["src", "docs", "."]);
    assert_eq!(strings(&stage.permissions.write), ["book", "target"]);
    let programs: Vec<&str> = stage.permissions.process.iter().map(ProcessRule::as_str).collect();
    assert_eq!(programs, ["cargo", "sh", "go build"], "a set of the file takes precedence over a built-in one");
    let used: Vec<(&str, bool)> =
        stage.permission_sets.iter().map(|set| (set.name.as_str(), set.is_built_in)).collect();
    assert_eq!(used, [("docs", false), ("rust", true), ("go", false)]);
}

#[test]
fn defaults_are_for_stages_without_the_key() {
    let plan = plan(&file(
        "[defaults]\ntimeout = '5m'\nretry = 2\npermissions = { use = ['rust'], read = ['docs'] }\n\
         [stages.a]\nuses = 'noop'\n\
         [stages.b]\nuses = 'noop'\ntimeout = '1m'\nretry = 0\n[stages.b.permissions]\n\
         [finally.c]\nuses = 'noop'\n[finally.c.rehearse]\npermissions = { use = ['go'] }\n",
    ));
    let [a, b, c] = &plan.stages[..] else { panic!("three stages") };
    for stage in [a, c] {
        assert_eq!((stage.timeout, stage.retry.max), (Some(Duration::from_secs(300)), 2), "{}", stage.id);
        assert_eq!(stage.permissions.read.len(), 2, "{}", stage.id);
    }
    assert_eq!((b.timeout, b.retry.max), (Some(Duration::from_secs(60)), 0));
    assert_eq!(b.permissions.entries().count(), 0, "an own table replaces the default one");
    assert!(b.permission_sets.is_empty());
    assert!(c.rehearsal_grants().is_some_and(|granted| granted.process.len() == 2));
}

#[test]
fn settings_of_environments_are_known_before_the_run() {
    let environments = "[environments.pro-duction]\nconfig = ['base.yaml', 'production.yaml']\ntarget = 'process'\n\
                        [environments.dev]\nconfig = ['base.yaml']\n";
    let stage = |with: &str| file(&format!("{environments}[stages.a]\nuses = 'noop'\nwith = {{ {with} }}\n"));
    let (parsed, warnings) = parse(&stage(
        "layers = '${{ environments.pro-duction.config }}', \
         text = 'x ${{ environments.dev.target }} ${{ environments.pro-duction.protected }}', \
         late = '${{ success() ? environments.dev.config : [] }}'",
    ));
    assert!(warnings.is_empty(), "they are used: {warnings:?}");
    let with = &parsed.stages[0].with;
    assert_eq!(with.source()["layers"], json!(["base.yaml", "production.yaml"]));
    assert_eq!(with.source()["text"], json!("x  false"));
    assert!(!with.is_open_at("layers") && with.is_open_at("late"));
    for (with, code) in [
        ("a = '${{ environments.prod.config }}'", "stagewright::unknown-reference"),
        ("a = '${{ environments.dev.name }}'", "stagewright::unknown-reference"),
    ] {
        let errors = errors(&stage(with));
        assert_eq!(errors.iter().map(|error| error.code()).collect::<Vec<_>>(), [code], "{with}");
    }
}

#[test]
fn documented_sets_are_the_built_in_ones() {
    let document = include_str!("../../../../docs/permissions.md");
    for set in PermissionSet::built_in() {
        let granted = set.permissions();
        let kinds = Permission::ALL.into_iter().filter(|kind| !granted.of(*kind).is_empty());
        let lists: Vec<String> = kinds
            .map(|kind| {
                let entries: Vec<String> =
                    granted.of(kind).iter().map(|entry| format!("{:?}", entry.as_str())).collect();
                format!("`{} = [{}]`", kind.key(), entries.join(", "))
            })
            .collect();
        let row = format!("| `{}` | {} |", set.name, lists.join(", "));
        assert!(document.contains(&row), "the document lacks: {row}");
    }
    let names: Vec<String> = PermissionSet::built_in().iter().map(|set| format!("`{}`", set.name)).collect();
    let (last, others) = names.split_last().expect("there are sets");
    let listed = format!("{} and {last}", others.join(", "));
    assert!(file_reference().contains(&listed), "the key `use` lists them: {listed}");
}
