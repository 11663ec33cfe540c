//! Observing the programs of a sandbox.

use std::fs;
use std::path::PathBuf;

use stagewright_process::sandbox::{FileUse, Observe};

use crate::sandbox::{finish, world};

#[tokio::test]
async fn uses_of_files_are_observed_and_nothing_more_is_allowed() {
    let mut world = world();
    world.confinement.observe = Some(Observe {
        except: ["/usr", "/lib", "/lib64", "/etc", "/proc", "/tmp"].map(PathBuf::from).into(),
        within: world.work.clone(),
    });
    let sandbox = world.sandbox();
    let script = "cat src/open; cat closed; ls src >/dev/null; mkdir out/d; echo x >out/d/a; mv out/d/a out/b; rm out/b; \
                  cd src; cat ../out/none; echo x >open";
    let (output, _) = finish(sandbox.spawn(world.command(script)).unwrap()).await;
    assert!(output.contains("for all") && !output.contains("confidential"), "{output}");
    let seen = sandbox.observations();
    let has = |path: &str, of: FileUse, existed: bool| {
        let path = world.work.join(path);
        assert!(
            seen.iter().any(|seen| (&seen.path, seen.of, seen.existed) == (&path, of, existed)),
            "{path:?} {of:?} {existed}: {seen:#?}"
        );
    };
    has("src/open", FileUse::Read, true);
    has("closed", FileUse::Read, false);
    has("src", FileUse::List, true);
    has("out/d", FileUse::MakeFolder, false);
    has("out/d/a", FileUse::Create, false);
    has("out/d/a", FileUse::Remove, true);
    has("out/b", FileUse::Name, false);
    has("out/b", FileUse::Remove, true);
    has("src/../out/none", FileUse::Read, false);
    has("src/open", FileUse::Create, true);
    assert!(seen.iter().all(|seen| !seen.path.starts_with("/usr") && !seen.path.starts_with("/proc")), "{seen:?}");
    assert_eq!(fs::read_to_string(world.work.join("src/open")).unwrap(), "for all\n", "still read-only");
}
