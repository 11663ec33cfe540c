//! Which values can become text of an expression's result.
//!
//! `inputs.fast ? '--release' : ''` reads an input, but its result is text from the pipeline file. The result of
//! `git.branch + '-dev'` contains text from git. If the result is executed as code, only the second can inject
//! commands. So the values that flow into the result matter, not all values that the expression names.
//!
//! The analysis may report too many values but never too few: the result of a call that isn't known to return a number
//! or a boolean is assumed to contain all of the call's arguments.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use super::names::{NAMESPACES, STATUS_FUNCTIONS, TYPES};

/// Operators and functions that always return a number or a boolean. The logical operators aren't among them: CEL lets
/// an implementation return an operand that isn't a boolean.
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

/// A value that can become text of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueSource {
    /// The top-level variable.
    pub(crate) root: String,
    /// The members selected from it, up to the first that isn't a plain name or a literal.
    pub(crate) path: Vec<String>,
}

impl std::fmt::Display for ValueSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root)?;
        self.path.iter().try_for_each(|step| write!(f, ".{step}"))
    }
}

/// The values that can become text of the expression's result, in the order of the text, without duplicates.
pub(super) fn sources(tree: &IdedExpr) -> Vec<ValueSource> {
    let mut flow = Flow { bound: Vec::new() };
    let mut found = Vec::new();
    for source in flow.node(tree) {
        if !found.contains(&source) {
            found.push(source);
        }
    }
    found
}

struct Flow<'a> {
    /// The variables of the enclosing macros, innermost last, with the values that flow into each. They shadow
    /// top-level variables.
    bound: Vec<(&'a str, Vec<ValueSource>)>,
}

impl<'a> Flow<'a> {
    fn node(&mut self, node: &'a IdedExpr) -> Vec<ValueSource> {
        if let Some(selected) = self.selected(node) {
            return vec![selected];
        }
        match &node.expr {
            // `has()` returns a boolean.
            Expr::Select(select) if select.test => Vec::new(),
            Expr::Select(select) => self.node(&select.operand),
            Expr::Unspecified | Expr::Literal(_) => Vec::new(),
            Expr::Ident(name) => self.bound_to(name).cloned().unwrap_or_default(),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => list.elements.iter().flat_map(|element| self.node(element)).collect(),
            Expr::Map(map) => map.entries.iter().flat_map(|entry| self.entry(&entry.expr)).collect(),
            Expr::Struct(literal) => literal.entries.iter().flat_map(|entry| self.entry(&entry.expr)).collect(),
            Expr::Comprehension(looped) => self.comprehension(looped),
        }
    }

    fn entry(&mut self, entry: &'a EntryExpr) -> Vec<ValueSource> {
        match entry {
            EntryExpr::StructField(field) => self.node(&field.value),
            EntryExpr::MapEntry(entry) => {
                let mut found = self.node(&entry.key);
                found.extend(self.node(&entry.value));
                found
            }
        }
    }

    fn call(&mut self, call: &'a CallExpr) -> Vec<ValueSource> {
        let name = call.func_name.as_str();
        let is_status = || STATUS_FUNCTIONS.iter().any(|(status, _)| *status == name);
        match (name, &*call.args) {
            _ if MEASURING.contains(&name) || name == "uint" || is_status() => Vec::new(),
            // The condition chooses one of the two values, but doesn't become part of it.
            (operators::CONDITIONAL, [_, then, otherwise]) => {
                let mut found = self.node(then);
                found.extend(self.node(otherwise));
                found
            }
            // Likewise, the key chooses a value but doesn't become part of it.
            (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT, [table, _]) => self.node(table),
            (_, arguments) => {
                let parts = call.target.iter().map(|target| &**target).chain(arguments);
                parts.flat_map(|part| self.node(part)).collect()
            }
        }
    }

    /// The values that flow into a macro's result: those in the accumulator's initial value, and those added by a step.
    ///
    /// A step also reads the accumulator. While the step is analysed, nothing flows into the accumulator's variable:
    /// what it holds came from the initial value or from an earlier step, and both are counted anyway. So one pass over
    /// the step suffices, without iterating to a fixed point.
    fn comprehension(&mut self, looped: &'a ComprehensionExpr) -> Vec<ValueSource> {
        let items = self.node(&looped.iter_range);
        let mut result = self.node(&looped.accu_init);
        let outside = self.bound.len();
        self.bound.push((&looped.accu_var, Vec::new()));
        self.bound.push((&looped.iter_var, items.clone()));
        self.bound.extend(looped.iter_var2.as_deref().map(|name| (name, items)));
        result.extend(self.node(&looped.loop_step));
        self.bound[outside].1 = result;
        let found = self.node(&looped.result);
        self.bound.truncate(outside);
        found
    }

    /// A chain of plain names, or of literals in brackets, that starts with a top-level variable.
    fn selected(&self, node: &IdedExpr) -> Option<ValueSource> {
        let (operand, member) = match &node.expr {
            Expr::Ident(name) => {
                let is_local = name.starts_with('@') || self.bound_to(name).is_some();
                let is_known = TYPES.contains(&name.as_str()) || NAMESPACES.contains(&name.as_str());
                let root = name.trim_start_matches('.').to_owned();
                return (!is_local && !is_known).then_some(ValueSource { root, path: Vec::new() });
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

    fn bound_to(&self, name: &str) -> Option<&Vec<ValueSource>> {
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
    fn values_in_the_result_are_sources() {
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
    fn values_that_are_only_compared_or_looked_up_are_not_sources() {
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
    fn values_that_a_macro_adds_are_sources() {
        flows("event.labels.map(label, label + '!')", &["event.labels"]);
        flows("['a'].map(x, x + git.branch)", &["git.branch"]);
        flows("event.labels.filter(label, label != 'x')", &["event.labels"]);
        flows("['a'].map(git, git)", &[]);
        flows("['a'].map(git, .git.branch)", &["git.branch"]);
    }
}
