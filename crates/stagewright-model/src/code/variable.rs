//! Variables whose text programs execute, or use to find what they execute.
//!
//! Like the list of interpreters, this list can't be complete.

const EXECUTED: [&str; 50] = [
    "BASH_ENV",
    "BROWSER",
    "BUNDLE_GEMFILE",
    "CARGO",
    "CLASSPATH",
    "DOCKER_HOST",
    "EDITOR",
    "ENV",
    "GEM_PATH",
    "GOFLAGS",
    "GRADLE_OPTS",
    "IFS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "LESSCLOSE",
    "LESSOPEN",
    "LUA_CPATH",
    "LUA_INIT",
    "LUA_PATH",
    "MAKEFLAGS",
    "MANPAGER",
    "MAVEN_OPTS",
    "NIX_PATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PAGER",
    "PATH",
    "PERL5DB",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5SHELL",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "PROMPT_COMMAND",
    "PS0",
    "PS1",
    "PS2",
    "PS4",
    "PYTHONHOME",
    "PYTHONPATH",
    "PYTHONSTARTUP",
    "RUBYLIB",
    "RUBYOPT",
    "RUSTC",
    "RUSTFLAGS",
    "SHELL",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "VISUAL",
    "_JAVA_OPTIONS",
];

/// Exported shell functions, variables of the dynamic linker, and npm's settings.
const EXECUTED_PREFIXES: [&str; 4] = ["BASH_FUNC_", "DYLD_", "LD_", "npm_config_"];

/// As in `CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER`.
const EXECUTED_SUFFIXES: [&str; 6] = ["_EDITOR", "_LINKER", "_PAGER", "_RUNNER", "_RUSTFLAGS", "_WRAPPER"];

/// Prefixes, after `GIT_`, of the variables that git executes or finds programs by. Others are data.
const EXECUTED_BY_GIT: [&str; 16] = [
    "ALTERNATE",
    "ASKPASS",
    "COMMON_DIR",
    "CONFIG",
    "DIR",
    "EDITOR",
    "EXEC_PATH",
    "EXTERNAL_DIFF",
    "INDEX_FILE",
    "OBJECT",
    "PAGER",
    "PROXY_COMMAND",
    "SEQUENCE_EDITOR",
    "SSH",
    "TEMPLATE_DIR",
    "WORK_TREE",
];

pub(super) fn is_executed(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("GIT_") {
        return EXECUTED_BY_GIT.iter().any(|known| rest.starts_with(known));
    }
    EXECUTED.contains(&name)
        || EXECUTED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || EXECUTED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executed_variables_are_distinguished_from_data() {
        for name in [
            "BASH_ENV",
            "GIT_SSH_COMMAND",
            "GIT_CONFIG_VALUE_0",
            "GIT_EXTERNAL_DIFF",
            "LD_PRELOAD",
            "RUSTC_WRAPPER",
            "PATH",
            "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
            "npm_config_script_shell",
            "KUBE_EDITOR",
            "NODE_OPTIONS",
        ] {
            assert!(is_executed(name), "{name}");
        }
        for name in
            ["BRANCH", "GIT_BRANCH", "GIT_SHA", "GIT_AUTHOR_NAME", "VERSION", "IMAGE", "NODE_ENV", "PS", "CARGO_HOME"]
        {
            assert!(!is_executed(name), "{name}");
        }
    }
}
