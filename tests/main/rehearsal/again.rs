//! Rehearsals of native plugins, of cells of a matrix, and of stages that are run again.

use sha2::Digest as _;

use super::{REHEARSED, everything, reason};
use crate::environment::{TestEnvironment, outcomes};

#[test]
fn a_rerun_of_a_rehearsal_is_a_rehearsal() {
    let (environment, witness, on_socket) = everything();
    let (code, first) = environment.events(&["run", "--rehearse"]);
    assert_eq!(code, 0, "{first:#?}");
    let (code, again) = environment.events(&["rerun", "latest"]);
    assert_eq!(code, 0, "{again:#?}");
    assert_eq!(outcomes(&again), outcomes(&first));
    assert_eq!(again[0]["rehearsal"], true, "{}", again[0]);
    for stage in REHEARSED.iter().filter(|stage| !["uses-output"].contains(stage)) {
        assert_eq!(reason(&again, stage), reason(&first, stage));
    }
    witness.assert_not_contacted();
    on_socket.assert_not_contacted();
    assert!(!environment.root().join("reached").exists() && !environment.root().join("fetched").exists());
}

#[test]
fn each_cell_of_a_matrix_is_rehearsed_separately() {
    let environment = TestEnvironment::with_pipeline(
        r#"
        schema = 1
        pipeline.name = "regions"
        [stages.deploy]
        uses = "command"
        matrix = { region = ["eu", "us"] }
        with = { run = "echo reached > reached-${{ matrix.region }}" }
        permissions = { process = ["sh"], write = ["."], net = ["https://api.example.org"] }
        [stages.deploy.rehearse]
        outputs = { url = "http://${{ matrix.region }}" }
        [stages.after]
        uses = "command"
        needs = ["deploy"]
        with = { run = "echo done > after" }
        permissions = { process = ["sh"], write = ["."] }
        "#,
    );
    let (code, events) = environment.events(&["run", "--rehearse"]);
    let ended = outcomes(&events);
    assert_eq!(code, 0, "{events:#?}");
    for region in ["eu", "us"] {
        let cell = ended.keys().find(|id| id.starts_with("deploy") && id.contains(region)).expect("a cell");
        assert_eq!(ended[cell], "rehearsed");
        let words = format!("would run `sh -eu -c 'echo reached > reached-{region}'`, reaching");
        assert!(reason(&events, cell).contains(&words), "{}", reason(&events, cell));
        assert!(!environment.root().join(format!("reached-{region}")).exists());
    }
    assert_eq!(environment.read("after"), "done\n");
}

#[test]
fn native_code_is_rehearsed_only_if_the_pipeline_configures_it() {
    let environment = TestEnvironment::new();
    let library = std::env::current_exe().expect("a test").with_file_name("libnative_example.so");
    let bytes = std::fs::read(library).expect("`plugins/native-example`, which is built with this test");
    std::fs::write(environment.root().join("native.so"), &bytes).expect("a copy");
    let digest: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let pipeline = r#"
        schema = 1
        pipeline.name = "native"
        [stages.native]
        uses = "path:native.so"
        trust = "native"
        digest = "sha256:DIGEST"
        [stages.known]
        uses = "path:native.so"
        trust = "native"
        digest = "sha256:DIGEST"
        [stages.known.rehearse]
        with = {}
        "#;
    environment.write("stagewright.toml", &pipeline.replace("DIGEST", &digest));
    let (code, events) = environment.events(&["run", "--rehearse"]);
    let ended = outcomes(&events);
    assert_eq!((code, ended["native"].as_str(), ended["known"].as_str()), (0, "rehearsed", "succeeded"), "{events:#?}");
    assert!(reason(&events, "native").contains("would call the native plugin"), "{}", reason(&events, "native"));
    let greeted = events.iter().filter(|event| event.to_string().contains("hello from native code"));
    assert!(greeted.clone().all(|event| event["stage-id"] != "native"), "{events:#?}");
    assert!(greeted.count() > 0, "{events:#?}");
}
