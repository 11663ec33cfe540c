//! The copy of the WIT contract that is published with this crate equals the original.

#![expect(clippy::disallowed_methods, reason = "tests read files of the repository")]

#[test]
fn both_copies_of_the_wit_are_the_same() {
    let root = env!("CARGO_MANIFEST_DIR");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).expect("the contract exists");
    let (canonical, copy) = (read("../../plugins/wit/stage.wit"), read("wit/stage.wit"));
    assert!(
        canonical == copy,
        "crates/stagewright-sdk/wit/stage.wit differs from plugins/wit/stage.wit: edit the latter and copy it over"
    );
}
