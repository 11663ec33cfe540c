//! Programs that take code as an argument or from standard input, and where in an argument list it stands.
//!
//! This is a list of known programs, and can't be complete. docs/permissions.md says what it covers.

/// How a program takes code. `BASE` is one that takes none.
#[derive(Clone, Copy)]
struct Interpreter {
    /// Without a path, and without a version at the end: `python3.12` is `python`.
    names: &'static [&'static str],
    /// Letters of options that are followed by code, as `c` in `-euc`.
    code: &'static str,
    /// Long options that are followed by code, as the next argument or behind `=`.
    long: &'static [&'static str],
    /// Letters of options that have a value, which is the rest of the argument or else the next one.
    valued: &'static str,
    /// Long options whose value is the next argument.
    long_valued: &'static [&'static str],
    /// The letter of an option after which everything is data.
    last: Option<char>,
    /// Whether everything behind the code is data.
    ends_with_code: bool,
    /// Letters stay letters behind the one for code, whose code is always a later argument: `sh -ceu CODE`.
    is_shell: bool,
    operands: Operands,
}

/// What arguments are that aren't options, as long as no option gave code.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operands {
    /// A file of code, or none: then code comes from standard input. Whatever follows is data.
    File,
    /// The first is code; whatever follows is data.
    Code,
    /// The first says where; the others are code.
    PlaceThenCode,
    /// The first is a subcommand; whatever follows isn't looked at.
    Subcommand,
    /// All are code.
    AllCode,
    /// Data, and options may follow.
    Data,
    /// The same, and so many are given that an expression is taken for data, as in `git checkout ${{ … }}`.
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
    // What a setting of git's says can be a command; its options stand before the subcommand.
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
    // Their commands run programs, too: `\!`, `system`, `.shell`.
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

/// Its options are words, any beginning of which will do, and what follows `-Command` is code to the last argument.
const POWERSHELL: [&str; 2] = ["pwsh", "powershell"];

/// An argument of a list, as far as it is known before a run.
#[derive(Clone, Copy)]
pub(super) struct Argument<'a> {
    /// As it is written, up to the first expression that may become anything.
    pub(super) known: &'a str,
    /// Whether there is such an expression.
    pub(super) is_open: bool,
}

/// What is code of a program with its arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Code {
    /// Positions of arguments.
    pub(super) arguments: Vec<usize>,
    /// Whether an interpreter reads its code from standard input.
    pub(super) stdin: bool,
}

/// Looks for interpreters anywhere in a list, so that one behind `env`, `timeout` or `docker exec` is found.
pub(super) fn code(list: &[Argument<'_>]) -> Code {
    let mut code = Code::default();
    // Behind the code of a shell are its arguments, the first of which is often called `sh` again.
    let mut is_data = false;
    for (position, program) in list.iter().enumerate() {
        let arguments = position + 1;
        // A program that isn't known may be any of them.
        let may_be = |one: &Interpreter| match program.is_open {
            true => position == 0 && one.operands == Operands::File,
            false => one.names.contains(&name(program.known)),
        };
        for interpreter in INTERPRETERS.iter().filter(|one| may_be(one)) {
            let is_certain = !program.is_open && !is_data;
            is_data |= interpreter.find(list, arguments, is_certain, &mut code);
        }
        match name(program.known) {
            "env" => split_strings(list, arguments, &mut code),
            "deno" if list.get(arguments).is_some_and(|one| one.known == "eval") => {
                code.arguments.extend(arguments + 1..list.len());
            }
            "git" => behind(list, arguments, "foreach", &mut code),
            "cmd" => ["/c", "/C", "/k", "/K"].into_iter().for_each(|option| behind(list, arguments, option, &mut code)),
            name if POWERSHELL.contains(&name) => powershell(list, arguments, &mut code),
            _ => {}
        }
    }
    code.arguments.retain(|&position| position < list.len());
    code.arguments.sort_unstable();
    code.arguments.dedup();
    code
}

/// `/usr/bin/python3.12` is `python`.
fn name(program: &str) -> &str {
    let name = program.rsplit('/').next().unwrap_or(program);
    let name = name.strip_suffix(".exe").unwrap_or(name);
    name.trim_end_matches(|last: char| last.is_ascii_digit() || matches!(last, '.' | '-'))
}

/// `env -S 'sh -c …'` makes a list of a text.
fn split_strings(list: &[Argument<'_>], start: usize, code: &mut Code) {
    let options = list.iter().enumerate().skip(start).take_while(|(_, one)| one.known.starts_with('-'));
    for (position, option) in options {
        if option.known.contains('S') || option.known.starts_with("--split-string") {
            code.arguments.extend([position, position + 1]);
        }
    }
}

/// Everything behind the word is code.
fn behind(list: &[Argument<'_>], start: usize, word: &str, code: &mut Code) {
    if let Some(found) = list.iter().skip(start).position(|one| one.known == word && !one.is_open) {
        code.arguments.extend(start + found + 1..list.len());
    }
}

fn powershell(list: &[Argument<'_>], start: usize, code: &mut Code) {
    let is_code = |option: &str| {
        let word = option.trim_start_matches(['-', '/']).to_ascii_lowercase();
        let is_begun = |whole: &str| whole.starts_with(&word);
        option.starts_with(['-', '/']) && !word.is_empty() && (is_begun("command") || is_begun("encodedcommand"))
    };
    match list[start..].iter().position(|one| is_code(one.known)) {
        Some(option) => code.arguments.extend(start + option..list.len()),
        // Without a file it reads its commands.
        None => code.stdin = true,
    }
}

enum Flag {
    /// The next argument is code, or the argument itself when it is open.
    Code,
    /// The next argument is a value.
    Valued,
    /// A shell's `-s`.
    Stdin,
    Other,
    Last,
}

impl Interpreter {
    /// `start`: where its arguments begin. `is_certain`: whether this is the program, or only may be. Whether everything
    /// behind is data.
    fn find(&self, list: &[Argument<'_>], start: usize, is_certain: bool, code: &mut Code) -> bool {
        let mut is_given = false;
        let mut at = start;
        while let Some(argument) = list.get(at) {
            if argument.is_open && is_certain && self.may_be_an_option(argument.known) {
                // It may be the option that makes code of the next one.
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
                // Of `-I${{ … }}` the value is there already.
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

    /// Behind an option for code, which stands before `at`; where the next option may be.
    fn add_code(&self, list: &[Argument<'_>], mut at: usize, code: &mut Code) -> usize {
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
            // `sh -ceo pipefail -u CODE`
            at += usize::from(option.known.ends_with(['o', 'O']));
            while let Some(further) = list.get(at).filter(|one| one.known.starts_with(['-', '+'])) {
                at += if further.known.ends_with(['o', 'O']) { 2 } else { 1 };
            }
        }
        code.arguments.push(at);
        at + 1
    }

    fn add_operands(&self, list: &[Argument<'_>], first: usize, is_certain: bool, code: &mut Code) {
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

    /// None for what isn't an option.
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

    /// Whether an argument that begins like this, and goes on in a way that isn't known, may be any option. It is none when
    /// what follows is the value of one, as in `-I${{ … }}`.
    fn may_be_an_option(&self, known: &str) -> bool {
        if matches!(self.operands, Operands::Arguments | Operands::Subcommand) {
            return false;
        }
        match known.strip_prefix("--") {
            Some(long) => !long.contains('='),
            None if known.starts_with(['-', '+']) => {
                self.is_shell || !matches!(self.flag(known), Some(Flag::Valued | Flag::Code))
            }
            // An operand that is code is refused by itself.
            None => known.is_empty() && self.operands != Operands::Code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `<X>` is an expression that may become anything.
    fn of(list: &[&str]) -> Code {
        let arguments = list.iter().map(|text| match text.find('<') {
            Some(at) => Argument { known: &text[..at], is_open: true },
            None => Argument { known: text, is_open: false },
        });
        code(&arguments.collect::<Vec<_>>())
    }

    #[track_caller]
    fn is_code(list: &[&str], expected: &[usize]) {
        assert_eq!(of(list).arguments, expected, "{list:?}");
    }

    #[test]
    fn the_argument_behind_the_option_is_code_and_those_after_it_are_not() {
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
    fn an_interpreter_is_found_behind_other_programs() {
        is_code(&["env", "A=<a>", "bash", "-c", "<x>"], &[4]);
        is_code(&["busybox", "sh", "-c", "<x>"], &[3]);
        is_code(&["docker", "exec", "box", "sh", "-c", "<x>"], &[5]);
        is_code(&["timeout", "5", "python3", "-c", "<x>"], &[4]);
        is_code(&["env", "-S", "<x>"], &[1, 2]);
    }

    #[test]
    fn data_of_programs_is_not_code() {
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
    fn what_may_be_an_option_or_an_interpreter_is_taken_for_one() {
        is_code(&["sh", "<flag>", "<x>"], &[1, 2]);
        is_code(&["bash", "-e<flag>", "x"], &[1, 2]);
        is_code(&["<shell>", "-c", "<x>"], &[2]);
        is_code(&["./<tool>", "--name", "<x>"], &[]);
    }

    #[test]
    fn a_shell_without_a_file_reads_its_code() {
        for list in [&["sh"][..], &["bash", "-s", "<arg>"], &["python3", "-"], &["bash", "-eu"], &["ssh", "host"]] {
            assert!(of(list).stdin, "{list:?}");
        }
        for list in [&["cat"][..], &["sh", "-c", "cat"], &["python3", "x.py"], &["ssh", "host", "cat"]] {
            assert!(!of(list).stdin, "{list:?}");
        }
    }
}
