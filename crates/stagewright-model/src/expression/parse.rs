//! Parses an expression into CEL's syntax tree, collects the names in it, and evaluates the tree.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, SourceInfo, operators};
use cel::common::types::{CelString, DYN_TYPE, STRING_TYPE};
use cel::common::value::{CowVal, Val};
use cel::{Context, Env, ExecutionError, IdedExpr, ParseErrors, Value};
use serde_json::Value as Json;

use super::flow::{self, ValueSource};
use super::names::{NAMESPACES, STATUS_FUNCTIONS, TYPES};
use super::{Scope, budget, scan, value};
use crate::nearest::nearest;

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq)]
enum CallForm {
    /// `int(x)`.
    Function,
    /// `x.trim()`.
    Method,
    /// As a function or as a method.
    Either,
    /// `optional.of(x)`.
    Within(&'static str),
}

/// The functions that CEL declares. The library doesn't expose its declarations, and a misspelt name should be reported
/// before a run.
const FUNCTIONS: [(&str, CallForm); 35] = [
    ("bool", CallForm::Function),
    ("bytes", CallForm::Function),
    ("charAt", CallForm::Method),
    ("contains", CallForm::Method),
    ("double", CallForm::Function),
    ("dyn", CallForm::Function),
    ("endsWith", CallForm::Method),
    ("format", CallForm::Method),
    ("from_json", CallForm::Function),
    ("hasValue", CallForm::Method),
    ("indexOf", CallForm::Method),
    ("int", CallForm::Function),
    ("join", CallForm::Method),
    ("lastIndexOf", CallForm::Method),
    ("lowerAscii", CallForm::Method),
    ("matches", CallForm::Either),
    ("none", CallForm::Within("optional")),
    ("of", CallForm::Within("optional")),
    ("ofNonZeroValue", CallForm::Within("optional")),
    ("or", CallForm::Method),
    ("orValue", CallForm::Method),
    ("quote", CallForm::Within("strings")),
    ("replace", CallForm::Method),
    ("reverse", CallForm::Method),
    ("size", CallForm::Either),
    ("split", CallForm::Method),
    ("startsWith", CallForm::Method),
    ("string", CallForm::Function),
    ("substring", CallForm::Method),
    ("to_json", CallForm::Function),
    ("trim", CallForm::Method),
    ("type", CallForm::Function),
    ("uint", CallForm::Function),
    ("upperAscii", CallForm::Method),
    ("value", CallForm::Method),
];

static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    env.add_extension(cel::extensions::strings)
        .and_then(|_| env.add_overload("to_json", "to_json(dyn)", vec![DYN_TYPE], call_to_json))
        .and_then(|()| env.add_overload("from_json", "from_json(string)", vec![STRING_TYPE], call_from_json))
        .and_then(|()| budget::declare(&mut env))
        .expect("none of these is in the standard library");
    Arc::new(env)
});

/// A use of a top-level variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VariableReference {
    /// The variable's name.
    pub(crate) root: String,
    /// The members selected from it, up to the first that isn't a plain name or a literal.
    pub(crate) path: Vec<ReferenceStep>,
    /// Byte offset of the variable in the expression's text.
    pub(crate) offset: usize,
}

impl VariableReference {
    /// The name of the first member: `build` in `stages.build.result`.
    pub(crate) fn member(&self) -> Option<&str> {
        self.path.first().map(|member| member.name.as_str())
    }
}

/// A member that is selected by a [`VariableReference`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReferenceStep {
    /// The member's name.
    pub(crate) name: String,
    /// Whether the member may be missing: `has()` tests for it, or it is selected with `?`.
    pub(crate) is_optional: bool,
}

#[derive(Debug)]
pub(super) struct ParsedExpression {
    pub(super) source: String,
    tree: IdedExpr,
    pub(super) references: Vec<VariableReference>,
    pub(super) roots: BTreeSet<String>,
    pub(super) stages: BTreeSet<String>,
    /// The values that can become text of the result.
    pub(super) sources: Vec<ValueSource>,
    pub(super) calls_status: bool,
}

pub(super) fn parse(source: &str) -> Result<ParsedExpression, (String, usize)> {
    if source.trim().is_empty() {
        return Err(("an expression is expected here".to_owned(), 0));
    }
    // The order of these steps matters. The size is limited before CEL's recursive parser runs. References and sources
    // are collected before `bound` rewrites the tree with calls and a variable that aren't in the text, so that they
    // describe what the author of the expression wrote.
    scan::check_size(source)?;
    let quoted = scan::quote_names(source);
    let (mut tree, places) = ENVIRONMENT
        .parser()
        .enable_ident_escape_syntax(true)
        .parse_with_source_info(&quoted.text)
        .map_err(|errors| explain(&errors, &quoted))?;
    let mut survey = Survey { places: &places, quoted: &quoted, found: Vec::new(), calls_status: false };
    survey.visit(&tree, &mut Vec::new())?;
    let Survey { found: references, calls_status, .. } = survey;
    let roots = references.iter().map(|reference| reference.root.clone()).collect();
    let stages = references.iter().filter(|reference| reference.root == "stages");
    let stages = stages.filter_map(|reference| reference.member().map(str::to_owned)).collect();
    let sources = flow::sources(&tree);
    budget::bound(&mut tree);
    Ok(ParsedExpression { source: source.to_owned(), tree, references, roots, stages, sources, calls_status })
}

const UNKNOWN_TOKEN: &str = "token recognition error at: '";

/// Rewords the first error of CEL's parser. CEL counts lines and characters from 1.
fn explain(errors: &ParseErrors, quoted: &scan::Quoted<'_>) -> (String, usize) {
    let Some(error) = errors.errors.first() else { return ("it can't be parsed".to_owned(), 0) };
    let (line, column) = (usize::try_from(error.pos.0).unwrap_or(0), usize::try_from(error.pos.1).unwrap_or(0));
    let before: usize = quoted.text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within: usize = quoted.text[before..].chars().take(column.saturating_sub(1)).map(char::len_utf8).sum();
    let message = error.msg.strip_prefix("Syntax error: ").unwrap_or(&error.msg);
    let unexpected = ["mismatched input '", "extraneous input '", UNKNOWN_TOKEN]
        .iter()
        .find_map(|start| message.strip_prefix(start))
        .map(|rest| rest.split_once("' expecting").map_or(rest.strip_suffix('\'').unwrap_or(rest), |(token, _)| token))
        .map(|token| token.trim().replace('`', ""));
    let reason = match unexpected.as_deref() {
        Some("<EOF>") => "it ends where more is expected".to_owned(),
        Some(token) if message.starts_with(UNKNOWN_TOKEN) && token.starts_with(['"', '\'']) => {
            "a string is never closed".to_owned()
        }
        Some(token) => format!("`{token}` is not expected here"),
        None if message.starts_with("missing ") || message.starts_with("no viable") => {
            "invalid CEL expression".to_owned()
        }
        None if message == "UNKNOWN" => "it is nested too deeply".to_owned(),
        None => message.to_owned(),
    };
    (reason, quoted.original(before + within))
}

/// Walks the tree and collects the references in it.
struct Survey<'a> {
    places: &'a SourceInfo,
    quoted: &'a scan::Quoted<'a>,
    found: Vec<VariableReference>,
    calls_status: bool,
}

impl<'a> Survey<'a> {
    /// `bound` are the variables of the enclosing macros, which shadow top-level ones.
    fn visit(&mut self, node: &'a IdedExpr, bound: &mut Vec<&'a str>) -> Result<(), (String, usize)> {
        if let Some((variable, name, path)) = selection(node) {
            return self.add(variable, name, path, bound);
        }
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
            Expr::Select(select) => self.visit(&select.operand, bound)?,
            Expr::Call(call) => self.visit_call(node, call, bound)?,
            Expr::List(list) => list.elements.iter().try_for_each(|element| self.visit(element, bound))?,
            Expr::Map(map) => self.visit_entries(map.entries.iter().map(|entry| &entry.expr), bound)?,
            Expr::Struct(literal) => self.visit_entries(literal.entries.iter().map(|entry| &entry.expr), bound)?,
            Expr::Comprehension(macro_call) => {
                self.visit(&macro_call.iter_range, bound)?;
                self.visit(&macro_call.accu_init, bound)?;
                let outside = bound.len();
                bound.extend([macro_call.iter_var.as_str(), macro_call.accu_var.as_str()]);
                bound.extend(macro_call.iter_var2.as_deref());
                self.visit(&macro_call.loop_cond, bound)?;
                self.visit(&macro_call.loop_step, bound)?;
                self.visit(&macro_call.result, bound)?;
                bound.truncate(outside);
            }
        }
        Ok(())
    }

    fn visit_entries(
        &mut self,
        entries: impl Iterator<Item = &'a EntryExpr>,
        bound: &mut Vec<&'a str>,
    ) -> Result<(), (String, usize)> {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.visit(&field.value, bound)?,
                EntryExpr::MapEntry(entry) => {
                    self.visit(&entry.key, bound)?;
                    self.visit(&entry.value, bound)?;
                }
            }
        }
        Ok(())
    }

    fn visit_call(
        &mut self,
        node: &'a IdedExpr,
        call: &'a CallExpr,
        bound: &mut Vec<&'a str>,
    ) -> Result<(), (String, usize)> {
        let name = call.func_name.as_str();
        if STATUS_FUNCTIONS.iter().any(|(status, _)| *status == name) {
            self.calls_status = true;
            if !call.args.is_empty() || call.target.is_some() {
                return Err((format!("`{name}()` takes no arguments"), self.offset(node)));
            }
        } else if name.starts_with(|first: char| first.is_ascii_alphabetic()) {
            check_call(name, call.target.as_deref()).map_err(|reason| (reason, self.offset(node)))?;
        }
        call.target.iter().try_for_each(|target| self.visit(target, bound))?;
        call.args.iter().try_for_each(|argument| self.visit(argument, bound))
    }

    fn add(
        &mut self,
        node: &IdedExpr,
        root: &str,
        path: Vec<ReferenceStep>,
        bound: &[&str],
    ) -> Result<(), (String, usize)> {
        let is_local = root.starts_with('@') || bound.contains(&root);
        if is_local || TYPES.contains(&root) || NAMESPACES.contains(&root) {
            return Ok(());
        }
        // A leading dot means the top-level variable, even if a macro's variable shadows it.
        let root = root.trim_start_matches('.');
        let offset = self.offset(node);
        if root == "stages" && path.is_empty() {
            return Err(("name the stage literally, as in `stages.build` or `stages[\"build\"]`".to_owned(), offset));
        }
        self.found.push(VariableReference { root: root.to_owned(), path, offset });
        Ok(())
    }

    fn offset(&self, node: &IdedExpr) -> usize {
        let start = self.places.offset_for(node.id).map_or(0, |(start, _)| start as usize);
        self.quoted.original(start.min(self.quoted.text.len()))
    }
}

/// A variable's node and name, and the members selected from it if all are plain names or literals.
fn selection(node: &IdedExpr) -> Option<(&IdedExpr, &str, Vec<ReferenceStep>)> {
    let (operand, name, is_optional) = match &node.expr {
        Expr::Ident(name) => return Some((node, name, Vec::new())),
        Expr::Select(select) => (&*select.operand, select.field.as_str(), select.test),
        Expr::Call(CallExpr { func_name, args, .. }) => match (func_name.as_str(), &**args) {
            (operator @ (operators::INDEX | operators::OPT_INDEX | operators::OPT_SELECT), [operand, key]) => {
                let Expr::Literal(LiteralValue::String(name)) = &key.expr else { return None };
                (operand, name.inner(), operator != operators::INDEX)
            }
            _ => return None,
        },
        _ => return None,
    };
    let (variable, root, mut path) = selection(operand)?;
    // A member of an optional member is optional too.
    let is_optional = is_optional || path.last().is_some_and(|member: &ReferenceStep| member.is_optional);
    path.push(ReferenceStep { name: name.to_owned(), is_optional });
    Some((variable, root, path))
}

/// Checks that a function exists and is called in its form.
fn check_call(name: &str, target: Option<&IdedExpr>) -> Result<(), String> {
    let Some((_, form)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
        let known = FUNCTIONS.iter().map(|(known, _)| *known).chain(STATUS_FUNCTIONS.iter().map(|(known, _)| *known));
        let hint = nearest(name, known).map(|known| format!("; did you mean `{known}`?")).unwrap_or_default();
        return Err(format!("unknown function `{name}`{hint}"));
    };
    let namespace = target.and_then(|target| match &target.expr {
        Expr::Ident(name) => NAMESPACES.into_iter().find(|namespace| namespace == name),
        _ => None,
    });
    let is_right = match form {
        CallForm::Function => target.is_none(),
        CallForm::Method => target.is_some() && namespace.is_none(),
        CallForm::Either => namespace.is_none(),
        CallForm::Within(within) => namespace == Some(within),
    };
    let written = match form {
        CallForm::Function => format!("`{name}(value)`"),
        CallForm::Method | CallForm::Either => format!("`value.{name}(…)`"),
        CallForm::Within(within) => format!("`{within}.{name}(…)`"),
    };
    if is_right { Ok(()) } else { Err(format!("`{name}` is called as {written}")) }
}

pub(super) fn evaluate(parsed: &ParsedExpression, scope: &dyn Scope) -> Result<Json, String> {
    let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
    budget::add_to(&mut context);
    for root in &parsed.roots {
        if root == "stages" {
            // Stages that haven't ended are missing: reading one is an error, and `has(stages.NAME)` is false.
            let stages = parsed.stages.iter().filter_map(|name| Some((name.as_str(), scope.stage(name)?)));
            let stages = value::map(stages.map(|(name, stage)| (name, value::from_json(&stage))));
            context.add_variable_from_value("stages", stages);
        } else if let Some(json) = scope.root(root) {
            context.add_variable_from_value(root.as_str(), value::from_json(&json));
        }
    }
    if parsed.calls_status {
        let needs = scope.status();
        for (name, answer) in STATUS_FUNCTIONS {
            let answer = answer(needs);
            context.add_function(name, move || answer).map_err(|error| error.to_string())?;
        }
    }
    value::to_json(&Value::resolve(&parsed.tree, &context).map_err(|error| reason(&error))?)
}

fn reason(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("`{key}` does not exist"),
        ExecutionError::UndeclaredReference(name) => format!("`{name}` has no value here"),
        ExecutionError::FunctionError { function, message } if function == budget::SPEND => message.clone(),
        ExecutionError::FunctionError { function, message } => format!("`{function}`: {message}"),
        ExecutionError::IndexOutOfBounds(index) => match value::to_json(index) {
            Ok(index) => format!("the list has no item {index}"),
            Err(_) => "the list has no such item".to_owned(),
        },
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "it divides by zero".to_owned(),
        ExecutionError::Overflow(..) => "the result is too large for a 64-bit integer".to_owned(),
        // Show the names that the expression uses, not those of the checked versions.
        other => other.to_string().replace("@join", "join").replace("@replace", "replace"),
    }
}

fn call_to_json<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let argument = arguments.pop().ok_or_else(ExecutionError::missing_argument_or_target)?;
    let json = value::to_json(&Value::try_from(argument.as_ref())?)
        .map_err(|message| ExecutionError::function_error("to_json", message))?;
    Ok(CowVal::owned(CelString::from(json.to_string())))
}

fn call_from_json<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let argument = arguments.pop();
    let text = argument.as_ref().and_then(|argument| argument.downcast_ref::<CelString<'_>>());
    let text = text.ok_or_else(ExecutionError::missing_argument_or_target)?;
    let json: Json =
        serde_json::from_str(text.inner()).map_err(|error| ExecutionError::function_error("from_json", error))?;
    let value: Box<dyn Val> = value::from_json(&json).try_into()?;
    Ok(CowVal::Owned(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expression::{ENVIRONMENT_FIELDS, MATRIX_STAGE_FIELDS, ROOTS, STAGE_FIELDS, fields_of};

    #[test]
    fn every_name_is_documented() {
        let document = include_str!("../../../../docs/expressions.md");
        let fields = |root: &'static str| {
            let fields = fields_of(root).unwrap_or_default().iter();
            fields.map(move |field| format!("`{root}.{field}`"))
        };
        let of_stages = STAGE_FIELDS.iter().chain(&MATRIX_STAGE_FIELDS).map(|field| format!("`stages.NAME.{field}"));
        let of_environments = ENVIRONMENT_FIELDS.iter().map(|field| format!("`environments.NAME.{field}`"));
        let functions = FUNCTIONS.iter().map(|(name, _)| (*name).to_owned());
        let status = STATUS_FUNCTIONS.iter().map(|(name, _)| format!("`{name}()`"));
        let roots = ROOTS.iter().map(|root| format!("`{root}."));
        let names = ["git", "event", "run", "pipeline"].into_iter().flat_map(fields);
        for name in names.chain(of_stages).chain(of_environments).chain(functions).chain(status).chain(roots) {
            assert!(document.contains(&name), "docs/expressions.md lacks {name}");
        }
    }
}
