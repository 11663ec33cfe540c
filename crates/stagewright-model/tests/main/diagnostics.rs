//! Snapshots of diagnostics: one test for each kind of mistake in a file.

use stagewright_model::Plan;

use crate::{errors, file, parse, plugins, render};

/// Tests that a file with `tables` is rejected with the errors in the snapshot.
macro_rules! refused {
    ($($name:ident: $tables:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(render(&errors(&file($tables))));
        }
    )*};
}

/// Tests that a whole file is rejected with the errors in the snapshot.
macro_rules! refused_whole {
    ($($name:ident: $text:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(render(&errors($text)));
        }
    )*};
}

/// Tests that a file with `tables` is accepted with the warnings in the snapshot.
macro_rules! warned {
    ($($name:ident: $tables:expr;)*) => {$(
        #[test]
        fn $name() {
            insta::assert_snapshot!(render(&parse(&file($tables)).1));
        }
    )*};
}

refused_whole! {
    syntax: "schema = 1\nname = \"x\n[stages.a\nuses = 'noop'\n";
    duplicate_key: "schema = 1\npipeline.name = 'x'\n[stages.a]\nuses = 'noop'\nuses = 'exec'\n[stages.a]\n";
    empty_file: "";
    other_schema: "schema = 2\npipeline.name = 'x'\nstages.a.uses = 'noop'\n";
    no_stages: "schema = 1\npipeline.name = 'x'\n[stages]\n";
}

refused! {
    cache_without_sandbox: "[stages.a]\nuses = 'exec'\nsandbox = 'off'\ncache = true\npermissions = { process = ['make'], read = ['.'] }\n[stages.b]\nuses = 'exec'\nsandbox = 'none'\n";
    unknown_permission_set: "[defaults]\nenv = { A = '1' }\n[stages.a]\nuses = 'noop'\n[stages.a.permissions]\nuse = ['rsut', 'x']\n";
    secret_in_permission_set: "[permission-sets.s]\nsecrets = ['token']\nreveal = ['other']\n[stages.a]\nuses = 'noop'\n[stages.a.permissions]\nuse = ['s']\nreveal = ['token']\n[stages.a.rehearse.permissions]\nuse = ['v']\n[permission-sets.v]\nservice = ['api']\nuse = ['s']\n";
    unknown_key: "[stages.a]\nuses = 'noop'\ntimeuot = '1m'\nmax_parallel = 1\n[stages.a.matrix]\nos = ['x']\nfail_fast = false\n";
    unknown_key_far_off: "[on]\nreleases = true\n[stages.a]\nuses = 'noop'\n";
    wrong_type: "[stages.a]\nuses = 'noop'\nneeds = 'b'\ntimeout = 20\nretry = 'often'\nwith = []\nmemory = 1.5\n";
    missing_key: "[stages.a]\nneeds = []\n[secrets.s]\nhosts = []\n";
    out_of_range: "[stages.a]\nuses = 'noop'\nretry = -1\nmatrix = { a = [1], max-parallel = 0 }\n";
    bad_duration: "[stages.a]\nuses = 'noop'\ntimeout = '20 minutes'\n";
    bad_size: "[stages.a]\nuses = 'noop'\nmemory = '256'\nlog-limit = '1 TB'\n";
    bad_schedule: "[on]\nschedule = ['@daily', '0 25 * * *']\n[stages.a]\nuses = 'noop'\n";
    never_due: "[on]\nschedule = ['0 0 30 2 *']\n[stages.a]\nuses = 'noop'\n";
    unknown_field: "concurrency.group = '${{ git.brnch }}'\n[stages.a]\nuses = 'noop'\nif = \"event.numbr == 1 && has(event.pull) && run.id != ''\"\n[stages.b]\nuses = 'noop'\nneeds = ['a', 'm']\nwith = { x = \"${{ stages.a.reslt }} ${{ stages['m'].attempts }} ${{ stages.m.cells }} ${{ git['x'] }} ${{ pipeline.?x.y }}\" }\n[stages.m]\nuses = 'noop'\nmatrix = { a = [1] }\n";
    wrong_call: "[stages.a]\nuses = 'noop'\nif = \"format('{0}', 1) == 'x'\"\n[stages.b]\nuses = 'noop'\nif = \"'1'.int() == 1\"\n[stages.c]\nuses = 'noop'\nif = \"strings.trim(' ') == ''\"\n[stages.d]\nuses = 'noop'\nif = \"quote('x') == 'x'\"\n";
    bad_digest: "[stages.a]\nuses = 'path:a.so'\ntrust = 'native'\ndigest = 'abc'\n";
    bad_plugin: "[stages.a]\nuses = 'oci:ghcr.io/acme/lint:1'\n[stages.b]\nuses = 'docker:x'\n[stages.c]\nuses = 'path:'\n";
    bad_pattern: "[on.push]\npaths-ignore = ['../docs']\n[stages.a]\nuses = 'noop'\ninputs = ['src/[a', '/etc']\noutputs = ['']\n";
    bad_path: "[stages.a]\nuses = 'noop'\n[stages.a.permissions]\nread = ['/etc', '~/.ssh']\nwrite = ['../out']\n";
    bad_origin: "[stages.a]\nuses = 'noop'\n[stages.a.permissions]\nnet = ['https://a.example/path', 'ftp://b', 'me@c']\n";
    bad_host: "[secrets.s]\nfrom = 'env:S'\nhosts = ['https://ghcr.io']\n[stages.a]\nuses = 'noop'\npermissions.secrets = ['s']\n";
    bad_program: "[stages.a]\nuses = 'noop'\npermissions.process = ['carg* test', '* x', 'git fetch ** x', \"git 'a\"]\n";
    bad_repository: "[stages.a]\nuses = 'noop'\npermissions.registry = ['local/app:1', 'app']\n";
    bad_secret_source: "[secrets.s]\nfrom = 'vault:kv/s'\n[stages.a]\nuses = 'noop'\npermissions.secrets = ['s']\n";
    bad_choice: "[concurrency]\ngroup = 'x'\nqueue = 'maximal'\n[stages.a]\nuses = 'noop'\ntrust = 'nativ'\n";
    bad_name: "[stages.Deploy]\nuses = 'noop'\nenv = { 'A-B' = '1' }\n[inputs.'my input']\n";
    bad_number: "[stages.a]\nuses = 'noop'\nwith = { x = nan, y = [inf] }\n";
    no_expression_here: "[stages.a]\nuses = '${{ inputs.plugin }}'\npermissions.read = ['${{ inputs.dir }}']\n";
    duplicate_stage: "[stages.a]\nuses = 'noop'\n[finally.a]\nuses = 'noop'\n";
    cycle: "[stages.a]\nuses = 'noop'\nneeds = ['c']\n[stages.b]\nuses = 'noop'\nneeds = ['a']\n[stages.c]\nuses = 'noop'\nneeds = ['b']\n[stages.d]\nuses = 'noop'\nneeds = ['a', 'e']\n[stages.e]\nuses = 'noop'\nneeds = ['d']\n";
    unknown_stage: "[stages.build]\nuses = 'noop'\n[stages.test]\nuses = 'noop'\nneeds = ['biuld', 'lint']\n";
    self_need: "[stages.a]\nuses = 'noop'\nneeds = ['a']\n";
    duplicate_need: "[stages.a]\nuses = 'noop'\n[stages.b]\nuses = 'noop'\nneeds = ['a', 'a']\n";
    wrong_need: "[stages.a]\nuses = 'noop'\nneeds = ['z']\n[finally.z]\nuses = 'noop'\n[finally.y]\nuses = 'noop'\nneeds = ['a']\n";
    unknown_plugin: "[stages.a]\nuses = 'cargo-tset'\n[stages.b]\nuses = 'shell'\n";
    bad_expression: "[stages.a]\nuses = 'noop'\nif = \"inputs.é == 'x' & true\"\nwith = { x = \"a\\t${{ 1 + }}\", y = 'b ${{ 1' }\nenv = { A = '${{ nope( }}' }\n";
    marked_condition: "[stages.a]\nuses = 'noop'\nif = '${{ event.ref == \"x\" }}'\n";
    not_upstream: "[stages.a]\nuses = 'noop'\n[stages.b]\nuses = 'noop'\nwith = { x = '${{ stages.a.outputs.y }}' }\n[stages.c]\nuses = 'noop'\nif = \"stages.c.result == 'x' || stages.z.result == 'y'\"\n[finally.z]\nuses = 'noop'\n[finally.y]\nuses = 'noop'\nif = 'stages.z.result == stages.a.result'\n";
    unknown_reference: "[inputs.version]\n[stages.a-b]\nuses = 'noop'\nenv = { KNOWN = '1', COPY = '${{ env.KNOWN }}' }\nif = \"inputs.versoin == '1' && env.KNWON == '2' && matrix.os == 'x' && stages.a-c.result == 'y'\"\nwith = { s = '${{ secrets.token }}', n = '${{ needs.a }}', m = '${{ inputs.version-1 }}', t = '${{ nothing }}' }\n";
    unknown_axis_in_expression: "[stages.a]\nuses = 'noop'\nmatrix = { os = ['x'], include = [{ os = 'x', extra = 1 }] }\nwith = { a = '${{ matrix.so }}', b = '${{ matrix.extra }}' }\n";
    pipeline_expression: "env = { A = '${{ stages.a.result }}' }\nconcurrency = { group = '${{ matrix.os }}-${{ inputs.x }}' }\n[stages.a]\nuses = 'noop'\n";
    unknown_environment: "[environments.staging]\ntarget = 'process'\n[stages.a]\nuses = 'noop'\nenvironment = 'stagin'\n[stages.b]\nuses = 'noop'\nenvironment = { name = 'production' }\n[stages.c]\nuses = 'noop'\nenvironment = 'staging'\n";
    unknown_team: "[teams]\nrelease = ['ada']\n[environments.p]\ntarget = 'process'\napprovers = ['team:releas', 'team:ops', 'ada', 'team:']\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\n";
    bad_team: "[teams]\nempty = []\nnested = ['team:other', 'ada', ' ']\nada = 'ada'\n'my team' = ['ada']\n[stages.a]\nuses = 'noop'\n";
    bad_freeze_time: "[environments.p]\ntarget = 'process'\n[[environments.p.freeze]]\nfrom = 2026-12-18T16:00:00\nuntil = 2027-01-04\nreason = 'holidays'\n[[environments.p.freeze]]\nfrom = '2026-12-18T16:00:00Z'\nuntil = 2027-01-04T08:00:00Z\nreason = 'holidays'\n[[environments.p.freeze]]\nfrom = 2027-01-04T08:00:00Z\nuntil = 2026-12-18T16:00:00Z\nreason = 'holidays'\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\n";
    bad_freeze_week: "[environments.p]\ntarget = 'process'\nfreeze = [\n  { weekly = 'Fry 16:00 - Mon 08:00', reason = 'r' },\n  { weekly = 'Fri 16:00 - Mon 24:00', reason = 'r' },\n  { weekly = 'Fri to Mon', reason = 'r' },\n  { weekly = 'Fri 16:00 - Friday 16:00', reason = 'r' },\n  { weekly = 'Fri 16:00 - Mon 08:00', time-zone = 'Berlin', reason = 'r' },\n  { weekly = 'Fri 16:00 - Mon 08:00', time-zone = 'Europe/Berlni', reason = 'r' },\n  { weekly = 'Fri 16:00 - Mon 08:00', time-zone = 'here' },\n]\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\n";
    bad_freeze_bounds: "[environments.p]\ntarget = 'process'\n[environments.q]\ntarget = 'process'\nfreeze = { reason = 'r' }\n[[environments.p.freeze]]\nreason = 'r'\n[[environments.p.freeze]]\nfrom = 2026-12-18T16:00:00Z\nreason = 'r'\n[[environments.p.freeze]]\nuntil = 2026-12-18T16:00:00Z\nreason = 'r'\n[[environments.p.freeze]]\nuntil = 2026-12-18T16:00:00Z\nweekly = 'Fri 16:00 - Mon 08:00'\nreason = 'r'\n[[environments.p.freeze]]\nfrom = 2026-12-18T16:00:00Z\nuntil = 2026-12-19T16:00:00Z\ntime-zone = 'UTC'\nreason = 'r'\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\n";
    bad_compensate: "[stages.build]\nuses = 'noop'\n[stages.deploy]\nuses = 'noop'\nneeds = ['build']\n[stages.other]\nuses = 'noop'\ncompensate = ['deploy']\n[stages.smoke]\nuses = 'noop'\nneeds = ['deploy']\ncompensate = ['deplyo', 'smoke', 'build', 'deploy', 'deploy', 'report', 'other']\n[finally.report]\nuses = 'noop'\ncompensate = ['deploy']\n";
    not_cacheable: "[environments.p]\ntarget = 'process'\n[secrets.t]\nfrom = 'env:T'\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\ncache = true\n[stages.b]\nuses = 'noop'\ncache = 'read'\npermissions = { net = ['cargo', 'https://example.org'] }\n[stages.c]\nuses = 'noop'\ncache = true\npermissions = { secrets = ['t'] }\n[stages.d]\nuses = 'noop'\ncache = 'write'\n[stages.e]\nuses = 'noop'\ncache = 1\n[stages.f]\nuses = 'noop'\ncache = false\npermissions = { socket = ['docker'] }\n";
    bad_regions: "[environments.p]\nwaves = { serial = [0, '0%', 'all'], pause.duration = '0s', on-failure = 'retry' }\nregions.a = { values = { name = 'x', size = 1 }, credentials = ['cluster'] }\nregions.b = {}\nregions.c.replicas = 1\n[environments.q]\nwaves = {}\n[environments.r]\nregions = {}\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\nwith.size = '${{ region.size }}'\n[stages.b]\nuses = 'noop'\nenvironment = 'q'\nwith.size = '${{ region.size }}'\n[stages.c]\nuses = 'noop'\nenvironment = 'r'\nneeds = ['a']\nwith = { n = '${{ stages.a.attempts }}' }\n";
    between_regions: "[environments.p.regions.a]\n[environments.p.regions.b]\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\n[stages.b]\nuses = 'noop'\nneeds = ['a']\n[stages.c]\nuses = 'noop'\nneeds = ['a', 'b']\nenvironment = 'p'\n";
    unknown_target: "[environments.p]\ntarget = 'kubernets'\n[environments.q]\ntarget = 'proces'\n[environments.r]\ntarget = ''\n[environments.s]\n[stages.a]\nuses = 'deploy'\nenvironment = 'p'\n[stages.b]\nuses = 'deploy'\n[stages.c]\nuses = 'deploy'\nenvironment = 's'\n[stages.d]\nuses = 'noop'\nenvironment = 'q'\n";
    unknown_secret: "[secrets.token]\nfrom = 'env:T'\n[stages.a]\nuses = 'noop'\npermissions.secrets = ['tokn', 'other', 'token']\n";
    reveal_without_secret: "[secrets.token]\nfrom = 'env:T'\n[stages.a]\nuses = 'noop'\npermissions = { secrets = ['token:proxy'], reveal = ['token'] }\n";
    missing_digest: "[stages.a]\nuses = 'path:a.so'\ntrust = 'native'\n";
    stray_digest: "[stages.a]\nuses = 'noop'\ndigest = 'sha256:0000000000000000000000000000000000000000000000000000000000000000'\n";
    bad_default: "[inputs.a]\ntype = 'number'\ndefault = '3'\n[inputs.b]\ntype = 'choice'\noptions = ['x', 'y']\ndefault = 'z'\n[stages.a]\nuses = 'noop'\n";
    bad_input: "[inputs.a]\ntype = 'choice'\n[inputs.b]\noptions = ['x']\n[stages.a]\nuses = 'noop'\n";
    empty_matrix: "[stages.a]\nuses = 'noop'\nmatrix = { os = [] }\n[stages.b]\nuses = 'noop'\nmatrix = { os = ['x'], exclude = [{ os = 'x' }] }\n[stages.c]\nuses = 'noop'\nmatrix = {}\n";
    duplicate_cell: "[stages.a]\nuses = 'noop'\nmatrix = { os = ['x', 'x'] }\n";
    unknown_axis: "[stages.a]\nuses = 'noop'\nmatrix = { os = ['x', 'y'], exclude = [{ so = 'x' }] }\n";
    everything_at_once: "[stages.a]\nuses = 'nop'\nneeds = ['b']\ntimeout = 5\n[stages.b]\nuses = 'noop'\nneeds = ['a']\nif = 'inputs.x = 1'\nenvironment = 'none'\ncolour = 'red'\n";
}

warned! {
    unused_permission_set: "[permission-sets.s]\nread = ['a']\n[stages.a]\nuses = 'noop'\n";
    unused_declarations: "[secrets.token]\nfrom = 'env:T'\n[environments.staging]\ntarget = 'process'\n[stages.a]\nuses = 'noop'\n";
    doubtful_approver: "[teams]\nrelease = ['ada']\n[environments.p]\ntarget = 'process'\napprovers = ['release']\n[stages.a]\nuses = 'noop'\nenvironment = 'p'\n";
    no_effect: "[on]\npush = { branches = ['main'] }\nschedule = ['0 4 * * *']\nmanual = false\n[concurrency]\ngroup = 'g'\n[environments.staging]\ntarget = 'process'\nurl = 'https://x.test'\napprovers = ['ada']\n[stages.a]\nuses = 'noop'\nenvironment = { name = 'staging', url = 'https://y.test' }\n";
    proxy_secret_never_sent: "[secrets.none]\nfrom = 'env:T'\n[secrets.token]\nfrom = 'env:T'\nhosts = ['npm.example', '*.corp:8443']\n[permission-sets.s]\nsecrets = ['token:proxy']\n[stages.a]\nuses = 'exec'\npermissions = { secrets = ['none:proxy', 'token:proxy'], net = ['https://other.example', 'http://npm.example', 'tcp://npm.example:443', 'https://x.corp'] }\n[stages.b]\nuses = 'exec'\npermissions = { use = ['s'] }\n[stages.c]\nuses = 'exec'\nsandbox = 'off'\npermissions = { secrets = ['token:proxy'], net = ['npm'] }\n[stages.d]\nuses = 'exec'\npermissions = { use = ['s'], net = ['https://*.corp:*'] }\n[stages.e]\nuses = 'exec'\npermissions = { secrets = ['token:proxy'], net = ['pip'] }\n";
    unused_exclude: "[stages.a]\nuses = 'noop'\nmatrix = { os = ['x'], exclude = [{ os = 'y' }] }\n";
}

#[test]
fn large_matrix() {
    let values = (0..33).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let tables = format!("[stages.a]\nuses = 'noop'\n[stages.a.matrix]\na = [{values}]\nb = [{values}]\n");
    insta::assert_snapshot!(render(&errors(&file(&tables))));
}

#[test]
fn large_plan() {
    let values = (0..1000).map(|value| value.to_string()).collect::<Vec<_>>().join(", ");
    let stages: Vec<_> = (0..6)
        .map(|stage| {
            let needs = if stage == 0 { String::new() } else { format!("'s{}'", stage - 1) };
            format!("[stages.s{stage}]\nuses = 'noop'\nneeds = [{needs}]\nmatrix = {{ a = [{values}] }}\n")
        })
        .collect();
    let errors = errors(&file(&stages.concat()));
    assert_eq!(errors.iter().map(|error| error.code()).collect::<Vec<_>>(), ["stagewright::large-plan"]);
}

#[test]
fn number_of_shown_mistakes_is_limited() {
    let stages: Vec<_> = (0..250).map(|stage| format!("stages.s{stage} = {{ uses = 'nop' }}\n")).collect();
    let errors = errors(&file(&stages.concat()));
    assert_eq!(errors.iter().count(), 101);
    assert_eq!(errors.iter().last().map(|last| last.message()), Some("150 more mistakes are not shown"));
}

/// A very long cycle must neither overflow the stack nor fill the screen.
#[test]
fn long_cycle_is_abbreviated() {
    let stages: Vec<_> = (0..20_000)
        .map(|stage| format!("stages.s{stage} = {{ uses = 'noop', needs = ['s{}'] }}\n", (stage + 1) % 20_000))
        .collect();
    let errors = errors(&file(&stages.concat()));
    let message = errors.iter().next().map(|error| error.message().to_owned()).unwrap_or_default();
    assert!(message.contains("s0 -> s1 -> s2"), "{message}");
    assert!(message.ends_with("(19988 more) -> s0"), "{message}");
}

#[test]
fn positions_are_lines_and_columns() {
    let errors = errors("schema = 1\npipeline.name = 'x'\nstages.a = { uses = 'é', nope = 1 }\n");
    let found: Vec<_> = errors.iter().map(|error| (error.code(), error.position())).collect();
    assert_eq!(found, [("stagewright::unknown-plugin", (3, 21)), ("stagewright::unknown-key", (3, 26))]);
    assert_eq!(errors.to_string(), "stagewright.toml has 2 mistakes");
}

#[test]
fn diagnostics_use_the_file_name_of_the_caller() {
    let errors = Plan::parse("pipelines/x.toml", "", &plugins()).expect_err("it is empty");
    assert_eq!(errors.iter().map(|error| error.file()).collect::<Vec<_>>(), ["pipelines/x.toml"; 3]);
}
