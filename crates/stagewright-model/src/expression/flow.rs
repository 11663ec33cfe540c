//! Which values may become text of an expression's result.
//!
//! `inputs.fast ? '--release' : ''` asks an input and gives back a text of the pipeline file, `git.branch + '-dev'` gives
//! back what git holds. Where a result is executed as code, only the second can carry somebody else's commands, so what
//! counts is which values flow into the result, not which are named.
//!
//! The answer errs on the side of too many: a call that isn't known to make a number or a boolean hands on whatever it is
//! given.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use super::names::{NAMESPACES, STATUS_FUNCTIONS, TYPES};

/// Operators and functions that give back a number or a boolean of their own making, whatever they are given. The logical
/// operators aren't among them: an implementation may give back an operand that is no boolean.
const MEASURING: [&str; 24] = [
    operators::SUBSTRACT,
    operators::MULTIPLY,
    operators::DIVIDE,
    operators::MODULO,
    operators::NEGATE,
    operators::EQUALS,
    operators::NOT_EQUALS,
    operators::GREATER_EQUALS,
    operators::LESS_EQUALS,
    operators::GREATER,
    operators::LESS,
    operators::IN,
    operators::NOT_STRICTLY_FALSE,
    "bool",
    "contains",
    "double",
    "endsWith",
    "hasValue",
    "indexOf",
    "int",
    "lastIndexOf",
    "matches",
    "size",
    "startsWith",
];

/// A value that may become text of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The top-level variable.
    pub(crate) root: String,
    /// What is selected of it, as far as that is written outright: `["build", "outputs", "image"]`.
    pub(crate) path: Vec<String>,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root)?;
        self.path.iter().try_for_each(|step| write!(f, ".{step}"))
    }
}

/// Of a whole expression, in the order in which they are written; each once.
pub(super) fn sources(tree: &IdedExpr) -> Vec<Source> {
    let mut flow = Flow { bound: Vec::new() };
    let mut found = Vec::new();
    for source in flow.of(tree) {
        if !found.contains(&source) {
            found.push(source);
        }
    }
    found
}

struct Flow<'a> {
    /// The variables of the macros around, which hide the top-level ones, with what flows into each.
    bound: Vec<(&'a str, Vec<Source>)>,
}

impl<'a> Flow<'a> {
    fn of(&mut self, node: &'a IdedExpr) -> Vec<Source> {
        if let Some(selected) = self.selected(node) {
            return vec![selected];
        }
        match &node.expr {
            // What `has()` asks is true or false.
            Expr::Select(select) if select.test => Vec::new(),
            Expr::Select(select) => self.of(&select.operand),
            Expr::Unspecified | Expr::Literal(_) => Vec::new(),
            Expr::Ident(name) => self.bound_to(name).cloned().unwrap_or_default(),
            Expr::Call(call) => self.of_call(call),
            Expr::List(list) => list.elements.iter().flat_map(|element| self.of(element)).collect(),
            Expr::Map(map) => map.entries.iter().flat_map(|entry| self.of_entry(&entry.expr)).collect(),
            Expr::Struct(literal) => literal.entries.iter().flat_map(|entry| self.of_entry(&entry.expr)).collect(),
            Expr::Comprehension(looped) => self.of_loop(looped),
        }
    }

    fn of_entry(&mut self, entry: &'a EntryExpr) -> Vec<Source> {
        match entry {
            EntryExpr::StructField(field) => self.of(&field.value),
            EntryExpr::MapEntry(entry) => {
                let mut found = self.of(&entry.key);
                found.extend(self.of(&entry.value));
                found
            }
        }
    }

    fn of_call(&mut self, call: &'a CallExpr) -> Vec<Source> {
        let name = call.func_name.as_str();
        let is_status = || STATUS_FUNCTIONS.iter().any(|(status, _)| *status == name);
        match (name, &*call.args) {
            _ if MEASURING.contains(&name) || name == "uint" || is_status() => Vec::new(),
            // Which of the two is given back may depend on anything; it isn't made of what decides.
            (operators::CONDITIONAL, [_, one, other]) => {
                let mut found = self.of(one);
                found.extend(self.of(other));
                found
            }
            // Nor is what a table holds made of the key by which it is looked up.
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [table, _]) => self.of(table),
            (_, arguments) => {
                let parts = call.target.iter().map(|target| &**target).chain(arguments);
                parts.flat_map(|part| self.of(part)).collect()
            }
        }
    }

    /// The result is made of where the loop begins and of what each turn adds. What flows into a turn's own result flows in
    /// by one of these as well, so that the variable which holds it counts for nothing on the first look.
    fn of_loop(&mut self, looped: &'a ComprehensionExpr) -> Vec<Source> {
        let items = self.of(&looped.iter_range);
        let mut result = self.of(&looped.accu_init);
        let outside = self.bound.len();
        self.bound.push((&looped.accu_var, Vec::new()));
        self.bound.push((&looped.iter_var, items.clone()));
        self.bound.extend(looped.iter_var2.as_deref().map(|name| (name, items)));
        result.extend(self.of(&looped.loop_step));
        self.bound[outside].1 = result;
        let found = self.of(&looped.result);
        self.bound.truncate(outside);
        found
    }

    /// A chain of plain names, or of literals in brackets, that starts with a top-level variable.
    fn selected(&self, node: &IdedExpr) -> Option<Source> {
        let (operand, member) = match &node.expr {
            Expr::Ident(name) => {
                let is_local = name.starts_with('@') || self.bound_to(name).is_some();
                let is_known = TYPES.contains(&name.as_str()) || NAMESPACES.contains(&name.as_str());
                let root = name.trim_start_matches('.').to_owned();
                return (!is_local && !is_known).then_some(Source { root, path: Vec::new() });
            }
            Expr::Select(select) if !select.test => (&*select.operand, select.field.as_str()),
            Expr::Call(CallExpr { func_name, args, .. }) => match (func_name.as_str(), &**args) {
                (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [operand, key]) => match &key.expr {
                    Expr::Literal(LiteralValue::String(member)) => (operand, member.inner()),
                    _ => return None,
                },
                _ => return None,
            },
            _ => return None,
        };
        let mut source = self.selected(operand)?;
        source.path.push(member.to_owned());
        Some(source)
    }

    fn bound_to(&self, name: &str) -> Option<&Vec<Source>> {
        self.bound.iter().rev().find(|(bound, _)| *bound == name).map(|(_, sources)| sources)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Expression;

    #[track_caller]
    fn flows(source: &str, expected: &[&str]) {
        let parsed = Expression::parse(source).unwrap();
        let found: Vec<String> = parsed.sources().iter().map(ToString::to_string).collect();
        assert_eq!(found, expected, "{source}");
    }

    #[test]
    fn what_is_handed_on_flows() {
        flows("git.branch", &["git.branch"]);
        flows("git['branch']", &["git.branch"]);
        flows(".git.branch", &["git.branch"]);
        flows("stages.build-it.outputs['image']", &["stages.build-it.outputs.image"]);
        flows("'x' + inputs.a + string(inputs.b)", &["inputs.a", "inputs.b"]);
        flows("inputs", &["inputs"]);
        flows("inputs[inputs.which]", &["inputs"]);
        flows("[inputs.a, 'b'].join(git.branch)", &["inputs.a", "git.branch"]);
        flows("{'a': git.tag, event.ref: 'b'}", &["git.tag", "event.ref"]);
        flows("from_json(stages.a.outputs.list)[0].name", &["stages.a.outputs.list"]);
        flows("git.?branch.orValue('none')", &["git.branch"]);
        flows("git.branch.lowerAscii().replace('/', event.actor)", &["git.branch", "event.actor"]);
        flows("git.dirty || git.branch", &["git.dirty", "git.branch"]);
    }

    #[test]
    fn what_is_only_asked_does_not_flow() {
        for harmless in [
            "'text'",
            "inputs.a == 'x' ? '--release' : ''",
            "size(git.branch)",
            "git.branch.startsWith('release/')",
            "has(git.tag)",
            "int(stages.a.outputs.count) + 1",
            "{'main': 'stable'}[git.branch]",
            "['a', 'b'][int(event.n)]",
            "success() && git.branch != 'main'",
            "event.labels.exists(label, label == 'deploy')",
            "event.labels.all(label, label != git.branch)",
            "[1, 2].map(n, n * int(event.n))",
        ] {
            flows(harmless, &[]);
        }
    }

    #[test]
    fn what_a_loop_adds_flows() {
        flows("event.labels.map(label, label + '!')", &["event.labels"]);
        flows("['a'].map(x, x + git.branch)", &["git.branch"]);
        flows("event.labels.filter(label, label != 'x')", &["event.labels"]);
        flows("['a'].map(git, git)", &[]);
        flows("['a'].map(git, .git.branch)", &["git.branch"]);
    }
}
