//! Programs that take code as an argument or from standard input, and the positions of that code in an argument list.
//!
//! The list can't be complete; docs/permissions.md says what it covers.

/// How a program takes code. `BASE` has no option that takes any.
#[derive(Clone, Copy)]
struct Interpreter {
    /// Without a directory and without a trailing version: `/usr/bin/python3.12` is `python`.
    names: &'static [&'static str],
    /// Letters of short options that take code, such as `c` in `-euc`.
    code: &'static str,
    /// Long options that take code, as the next argument or after `=`.
    long: &'static [&'static str],
    /// Letters of short options that take a value: the rest of the argument or, if that is empty, the next argument.
    valued: &'static str,
    /// Long options that take the next argument as a value.
    long_valued: &'static [&'static str],
    /// Letter of the short option after which all arguments are data.
    last: Option<char>,
    /// Whether all arguments after the code are data.
    ends_with_code: bool,
    /// Whether letters after the code letter are still options, and the code is a later argument: `sh -ceu CODE`.
    is_shell: bool,
    operands: Operands,
}

/// What the arguments are that aren't options, if no option took code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operands {
    /// The first is a file of code, and the rest is data. Without any, code is read from standard input.
    File,
    /// The first is code; the rest is data.
    Code,
    /// The first is a host or a database; the rest is code.
    PlaceThenCode,
    /// The first is a subcommand; the rest isn't examined.
    Subcommand,
    /// All are code.
    AllCode,
    /// All are data, and options may follow them.
    Data,
    /// Like `Data`, but an expression counts as an operand, not as a possible option: `git checkout ${{ … }}`.
    Arguments,
}

const BASE: Interpreter = Interpreter {
    names: &[],
    code: "",
    long: &[],
    valued: "",
    long_valued: &[],
    last: None,
    ends_with_code: false,
    is_shell: false,
    operands: Operands::File,
};

const INTERPRETERS: [Interpreter; 25] = [
    Interpreter {
        names: &[
            "sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "hush", "rbash", "fish", "csh", "tcsh", "yash", "oksh",
            "loksh", "posh", "rc", "es", "nu", "elvish", "xonsh", "ion",
        ],
        code: "c",
        long: &["--command", "--init-command"],
        valued: "oO",
        long_valued: &["--rcfile", "--init-file"],
        ends_with_code: true,
        is_shell: true,
        ..BASE
    },
    Interpreter {
        names: &["python", "pypy", "ipython"],
        code: "c",
        valued: "WX",
        last: Some('m'),
        ends_with_code: true,
        ..BASE
    },
    Interpreter { names: &["perl"], code: "eE", valued: "MmIiFDCVx", ..BASE },
    Interpreter { names: &["ruby"], code: "e", valued: "rICEFiKTWx", ..BASE },
    Interpreter {
        names: &["node", "nodejs", "bun", "deno", "tsx", "ts-node"],
        code: "ep",
        long: &["--eval", "--print"],
        valued: "rC",
        long_valued: &["--require", "--import", "--loader", "--experimental-loader", "--conditions", "--env-file"],
        ..BASE
    },
    Interpreter {
        names: &["php"],
        code: "rBRE",
        long: &["--run", "--process-begin", "--process-code", "--process-end"],
        valued: "cdztS",
        ..BASE
    },
    Interpreter { names: &["lua", "luajit"], code: "e", valued: "l", ..BASE },
    Interpreter { names: &["Rscript", "R", "julia", "elixir", "osascript"], code: "eE", long: &["--eval"], ..BASE },
    Interpreter {
        names: &["awk", "gawk", "mawk", "nawk", "sed", "gsed"],
        code: "e",
        long: &["--expression", "--source"],
        valued: "fvFl",
        long_valued: &["--file", "--assign", "--field-separator"],
        operands: Operands::Code,
        ..BASE
    },
    Interpreter {
        names: &["su", "runuser", "script", "flock"],
        code: "c",
        long: &["--command", "--session-command"],
        operands: Operands::Data,
        ..BASE
    },
    Interpreter { names: &["ssh"], valued: "bcDEeFIiJLlmOopQRSWw", operands: Operands::PlaceThenCode, ..BASE },
    Interpreter { names: &["tclsh", "wish", "expect"], code: "c", ..BASE },
    // A git setting can be a command. These options stand before the subcommand.
    Interpreter {
        names: &["git"],
        code: "c",
        long: &["--config-env"],
        valued: "C",
        operands: Operands::Subcommand,
        ..BASE
    },
    Interpreter {
        names: &["git"],
        long: &[
            "--exec",
            "--tree-filter",
            "--env-filter",
            "--index-filter",
            "--msg-filter",
            "--commit-filter",
            "--tag-name-filter",
            "--parent-filter",
            "--upload-pack",
            "--receive-pack",
            "--extcmd",
        ],
        operands: Operands::Arguments,
        ..BASE
    },
    Interpreter { names: &["npx", "npm", "pnpm"], code: "c", long: &["--call"], operands: Operands::Arguments, ..BASE },
    Interpreter {
        names: &["make", "gmake"],
        code: "E",
        long: &["--eval"],
        valued: "CfIjlo",
        operands: Operands::Arguments,
        ..BASE
    },
    Interpreter { names: &["just"], long: &["--command", "--shell-arg"], operands: Operands::Arguments, ..BASE },
    Interpreter { names: &["nix-shell"], long: &["--run", "--command"], operands: Operands::Arguments, ..BASE },
    Interpreter {
        names: &["vi", "vim", "nvim", "ex"],
        code: "c",
        long: &["--cmd"],
        operands: Operands::Arguments,
        ..BASE
    },
    Interpreter { names: &["emacs"], long: &["--eval", "--execute"], operands: Operands::Arguments, ..BASE },
    // Database shells can run programs too: `\!`, `system`, `.shell`.
    Interpreter {
        names: &["psql"],
        code: "c",
        long: &["--command"],
        valued: "dfhpUvo",
        operands: Operands::Arguments,
        ..BASE
    },
    Interpreter {
        names: &["mysql", "mariadb"],
        code: "e",
        long: &["--execute"],
        operands: Operands::Arguments,
        ..BASE
    },
    Interpreter { names: &["sqlite"], long: &["-cmd"], operands: Operands::PlaceThenCode, ..BASE },
    Interpreter { names: &["eval"], operands: Operands::AllCode, ..BASE },
    Interpreter { names: &["watch", "parallel"], valued: "nj", operands: Operands::AllCode, ..BASE },
];

/// PowerShell's options are words that may be abbreviated, and all arguments after `-Command` are code.
const POWERSHELL: [&str; 2] = ["pwsh", "powershell"];

/// What is known of an argument before the run.
#[derive(Clone, Copy)]
pub(super) struct Argument<'a> {
    /// The text before the first expression that can evaluate to arbitrary text.
    pub(super) known: &'a str,
    /// Whether the argument holds such an expression.
    pub(super) is_open: bool,
}

/// Where a command line holds code.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct CodePositions {
    /// Indices into the list that starts with the program.
    pub(super) arguments: Vec<usize>,
    /// Whether an interpreter reads its code from standard input.
    pub(super) stdin: bool,
}

/// Looks for interpreters at every position of the list, so that one after `env`, `timeout` or `docker exec` is found.
pub(super) fn find_code(list: &[Argument<'_>]) -> CodePositions {
    let mut code = CodePositions::default();
    // A shell's code is followed by its arguments, and `$0`, the first of them, is often `sh` again. They are still
    // searched, because a wrapper may start another program there, but as data: only explicit code options count, and
    // neither operands nor open arguments do.
    let mut is_data = false;
    for (position, program) in list.iter().enumerate() {
        let arguments = position + 1;
        // A program whose name is an expression could be any interpreter that takes a file.
        let may_be = |interpreter: &Interpreter| match program.is_open {
            true => position == 0 && interpreter.operands == Operands::File,
            false => interpreter.names.contains(&name(program.known)),
        };
        for interpreter in INTERPRETERS.iter().filter(|interpreter| may_be(interpreter)) {
            let is_certain = !program.is_open && !is_data;
            is_data |= interpreter.find(list, arguments, is_certain, &mut code);
        }
        match name(program.known) {
            "env" => split_strings(list, arguments, &mut code),
            "deno" if list.get(arguments).is_some_and(|argument| argument.known == "eval") => {
                code.arguments.extend(arguments + 1..list.len());
            }
            "git" => all_after(list, arguments, "foreach", &mut code),
            "cmd" => ["/c", "/C", "/k", "/K"].iter().for_each(|option| all_after(list, arguments, option, &mut code)),
            name if POWERSHELL.contains(&name) => powershell(list, arguments, &mut code),
            _ => {}
        }
    }
    code.arguments.retain(|&position| position < list.len());
    code.arguments.sort_unstable();
    code.arguments.dedup();
    code
}

/// Strips the directory, `.exe` and the version: `/usr/bin/python3.12` is `python`.
fn name(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    name.trim_end_matches(|last: char| last.is_ascii_digit() || matches!(last, '.' | '-'))
}

/// `env -S 'sh -c …'` splits its text into a command line.
fn split_strings(list: &[Argument<'_>], start: usize, code: &mut CodePositions) {
    let options = list.iter().enumerate().skip(start).take_while(|(_, argument)| argument.known.starts_with('-'));
    for (position, option) in options {
        if option.known.contains('S') || option.known.starts_with("--split-string") {
            code.arguments.extend([position, position + 1]);
        }
    }
}

/// Marks all arguments after `word` as code.
fn all_after(list: &[Argument<'_>], start: usize, word: &str, code: &mut CodePositions) {
    if let Some(found) = list.iter().skip(start).position(|argument| argument.known == word && !argument.is_open) {
        code.arguments.extend(start + found + 1..list.len());
    }
}

fn powershell(list: &[Argument<'_>], start: usize, code: &mut CodePositions) {
    let is_code = |option: &str| {
        let word = option.trim_start_matches(['-', '/']).to_ascii_lowercase();
        let abbreviates = |whole: &str| whole.starts_with(&word);
        option.starts_with(['-', '/']) && !word.is_empty() && (abbreviates("command") || abbreviates("encodedcommand"))
    };
    match list[start..].iter().position(|argument| is_code(argument.known)) {
        Some(option) => code.arguments.extend(start + option..list.len()),
        // Without a code option, PowerShell may read commands from standard input.
        None => code.stdin = true,
    }
}

enum Flag {
    /// The next argument is code, or this argument if it is open.
    Code,
    /// The next argument is a value.
    Valued,
    /// A shell's `-s`: it reads code from standard input.
    Stdin,
    Other,
    /// No options follow.
    Last,
}

impl Interpreter {
    /// Adds the code among the arguments from `start` on. `is_certain` is false if the program only might be this
    /// interpreter. Returns whether all that follows is data.
    fn find(&self, list: &[Argument<'_>], start: usize, is_certain: bool, code: &mut CodePositions) -> bool {
        let mut is_given = false;
        let mut at = start;
        while let Some(argument) = list.get(at) {
            if argument.is_open && is_certain && self.may_be_an_option(argument.known) {
                // The expression could evaluate to an option that makes the next argument code.
                code.arguments.extend([at, at + 1]);
                at += 1;
                continue;
            }
            let Some(flag) = self.flag(argument.known) else {
                if !matches!(self.operands, Operands::Data | Operands::Arguments) {
                    break;
                }
                at += 1;
                continue;
            };
            at += 1;
            match flag {
                Flag::Code => {
                    is_given = true;
                    at = self.add_code(list, at, code);
                    if self.ends_with_code {
                        break;
                    }
                }
                // `-I${{ … }}` holds its value itself.
                Flag::Valued => at += usize::from(!argument.is_open),
                Flag::Stdin => code.stdin = true,
                Flag::Other => {}
                Flag::Last => break,
            }
        }
        if !is_given {
            self.add_operands(list, at, is_certain, code);
        }
        is_given && self.ends_with_code
    }

    /// Adds the code of the code option at `at - 1`. Returns the position where further options may follow.
    fn add_code(&self, list: &[Argument<'_>], mut at: usize, code: &mut CodePositions) -> usize {
        let option = list[at - 1];
        let is_attached = option.known.contains('=')
            || (!self.is_shell
                && !option.known.starts_with("--")
                && !option.known.ends_with(|c| self.code.contains(c)));
        if option.is_open || is_attached {
            code.arguments.push(at - 1);
            return at;
        }
        if self.is_shell {
            // A shell takes its code after all of its options, as in `sh -ceo pipefail -u CODE`.
            at += usize::from(option.known.ends_with(['o', 'O']));
            while let Some(further) = list.get(at).filter(|argument| argument.known.starts_with(['-', '+'])) {
                at += if further.known.ends_with(['o', 'O']) { 2 } else { 1 };
            }
        }
        code.arguments.push(at);
        at + 1
    }

    fn add_operands(&self, list: &[Argument<'_>], first: usize, is_certain: bool, code: &mut CodePositions) {
        match self.operands {
            _ if !is_certain => {}
            Operands::File => code.stdin |= list.get(first).is_none_or(|file| file.known == "-"),
            Operands::Code => code.arguments.push(first),
            Operands::PlaceThenCode => {
                code.arguments.extend(first + 1..list.len());
                code.stdin |= first + 1 >= list.len();
            }
            Operands::AllCode => code.arguments.extend(first..list.len()),
            Operands::Data | Operands::Arguments | Operands::Subcommand => {}
        }
    }

    /// None if `text` isn't an option.
    fn flag(&self, text: &str) -> Option<Flag> {
        if matches!(text, "--") {
            return Some(Flag::Last);
        }
        if text.starts_with("--") {
            let head = text.split('=').next().unwrap_or(text);
            return Some(match (self.long.contains(&head), self.long_valued.contains(&text)) {
                (true, _) => Flag::Code,
                (_, true) => Flag::Valued,
                _ => Flag::Other,
            });
        }
        let letters = text.strip_prefix(['-', '+']).filter(|letters| !letters.is_empty())?;
        if self.is_shell && text.starts_with('-') && letters.contains('c') {
            return Some(Flag::Code);
        }
        for (position, letter) in letters.char_indices() {
            let is_end = position + letter.len_utf8() == letters.len();
            match letter {
                _ if self.code.contains(letter) => return Some(Flag::Code),
                _ if Some(letter) == self.last => return Some(Flag::Last),
                _ if self.valued.contains(letter) && is_end => return Some(Flag::Valued),
                _ if self.valued.contains(letter) && !self.is_shell => return Some(Flag::Other),
                's' if self.is_shell => return Some(Flag::Stdin),
                _ => {}
            }
        }
        Some(Flag::Other)
    }

    /// Whether an open argument with this prefix could be a code option. `-I${{ … }}` can't: the expression is a value.
    fn may_be_an_option(&self, known: &str) -> bool {
        if matches!(self.operands, Operands::Arguments | Operands::Subcommand) {
            return false;
        }
        match known.strip_prefix("--") {
            Some(long) => !long.contains('='),
            None if known.starts_with(['-', '+']) => {
                self.is_shell || !matches!(self.flag(known), Some(Flag::Valued | Flag::Code))
            }
            // An operand that is code is reported as code in any case.
            None => known.is_empty() && self.operands != Operands::Code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<X>` stands for an expression that can evaluate to arbitrary text.
    fn positions(list: &[&str]) -> CodePositions {
        let arguments = list.iter().map(|text| match text.find('<') {
            Some(at) => Argument { known: &text[..at], is_open: true },
            None => Argument { known: text, is_open: false },
        });
        find_code(&arguments.collect::<Vec<_>>())
    }

    #[track_caller]
    fn is_code(list: &[&str], expected: &[usize]) {
        assert_eq!(positions(list).arguments, expected, "{list:?}");
    }

    #[test]
    fn argument_after_code_option_is_code() {
        is_code(&["sh", "-c", "echo \"$1\"", "_", "<branch>"], &[2]);
        is_code(&["bash", "-euo", "pipefail", "-c", "<x>", "a"], &[4]);
        is_code(&["bash", "-ceuo", "pipefail", "<x>"], &[3]);
        is_code(&["bash", "--norc", "-c", "-e", "<x>"], &[4]);
        is_code(&["/usr/bin/python3.12", "-B", "-c", "<x>", "<y>"], &[3]);
        is_code(&["python3", "-cprint(<x>)"], &[1]);
        is_code(&["perl", "-MData::Dumper", "-lane", "<x>"], &[3]);
        is_code(&["perl", "-I<dir>", "-e", "1"], &[3]);
        is_code(&["ruby", "-r", "json", "-e", "<x>", "-e", "<y>"], &[4, 6]);
        is_code(&["node", "--require", "x", "--eval=<x>"], &[3]);
        is_code(&["node", "-pe", "<x>"], &[2]);
        is_code(&["pwsh", "-NoProfile", "-Command", "<x>", "<y>"], &[2, 3, 4]);
        is_code(&["awk", "-v", "x=<x>", "<y>", "<file>"], &[3]);
        is_code(&["su", "deploy", "-c", "<x>"], &[3]);
        is_code(&["ssh", "-p", "22", "host", "uptime", "<x>"], &[4, 5]);
        is_code(&["deno", "eval", "<x>"], &[2]);
        is_code(&["cmd.exe", "/c", "<x>"], &[2]);
        is_code(&["git", "-C", "dir", "-c", "<x>", "log"], &[4]);
        is_code(&["git", "rebase", "--exec", "<x>", "main"], &[3]);
        is_code(&["git", "submodule", "foreach", "<x>"], &[3]);
        is_code(&["npm", "exec", "-c", "<x>"], &[3]);
        is_code(&["make", "-C", "dir", "--eval=<x>"], &[3]);
        is_code(&["psql", "-U", "me", "-c", "<x>"], &[4]);
        is_code(&["sqlite3", "data.db", "<x>"], &[2]);
    }

    #[test]
    fn interpreter_after_wrapper_program_is_found() {
        is_code(&["env", "A=<a>", "bash", "-c", "<x>"], &[4]);
        is_code(&["busybox", "sh", "-c", "<x>"], &[3]);
        is_code(&["docker", "exec", "box", "sh", "-c", "<x>"], &[5]);
        is_code(&["timeout", "5", "python3", "-c", "<x>"], &[4]);
        is_code(&["env", "-S", "<x>"], &[1, 2]);
    }

    #[test]
    fn plain_arguments_are_not_code() {
        is_code(&["cargo", "build", "--profile", "<x>"], &[]);
        is_code(&["sh", "script.sh", "-c", "<x>"], &[]);
        is_code(&["python3", "-m", "pytest", "-c", "<x>"], &[]);
        is_code(&["python3", "./run-<x>.py", "-c", "<y>"], &[]);
        is_code(&["git", "checkout", "<branch>"], &[]);
        is_code(&["git", "switch", "-c", "<branch>"], &[]);
        is_code(&["git", "commit", "-m", "<x>"], &[]);
        is_code(&["npm", "run", "build", "--", "<x>"], &[]);
        is_code(&["make", "VERSION=<x>"], &[]);
        is_code(&["node", "cli.js", "-e", "<x>"], &[]);
    }

    #[test]
    fn open_argument_counts_as_code_option_or_interpreter() {
        is_code(&["sh", "<flag>", "<x>"], &[1, 2]);
        is_code(&["bash", "-e<flag>", "x"], &[1, 2]);
        is_code(&["<shell>", "-c", "<x>"], &[2]);
        is_code(&["./<tool>", "--name", "<x>"], &[]);
    }

    #[test]
    fn shell_without_file_reads_code_from_stdin() {
        for list in [&["sh"][..], &["bash", "-s", "<arg>"], &["python3", "-"], &["bash", "-eu"], &["ssh", "host"]] {
            assert!(positions(list).stdin, "{list:?}");
        }
        for list in [&["cat"][..], &["sh", "-c", "cat"], &["python3", "x.py"], &["ssh", "host", "cat"]] {
            assert!(!positions(list).stdin, "{list:?}");
        }
    }
}
