//! Limits the memory and time that evaluating an expression can take.
//!
//! Every CEL expression terminates, but one line can double a text sixty times, or nest loops that run for years. The
//! syntax tree is therefore rewritten before it is evaluated: each value that can grow, and each value that a loop
//! iterates over, is passed through a call that deducts its size from a budget. `join` and `replace` can multiply the
//! size of their arguments in one step, so they are replaced by versions that compute the size of their result first.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, operators};
use cel::common::types::{
    CelBytes, CelInt, CelList, CelMap, CelString, DYN_TYPE, INT_TYPE, LIST_TYPE, STRING_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Context, DeclarationError, Env, ExecutionError, IdedExpr};

/// The budget of one evaluation: one for each value, and one more for each byte of text. This is far more than outputs
/// and events contain, and takes a fraction of a second to use up.
const LARGEST: usize = 1 << 20;

/// CEL's lexer rejects `@`, so an expression can't contain these names.
pub(super) const SPEND: &str = "@spend";
const BUDGET: &str = "@budget";

/// Functions whose result can be larger than their arguments.
const GROWING: [&str; 6] = [operators::ADD, "format", "join", "quote", "replace", "to_json"];

/// Functions whose result can be larger than the sum of their arguments, and the checked versions that replace them.
const MULTIPLYING: [(&str, &str); 2] = [("join", "@join"), ("replace", "@replace")];

/// Declares the functions that a bounded tree calls.
pub(super) fn declare(env: &mut Env) -> Result<(), DeclarationError> {
    env.add_overload(SPEND, "@spend(dyn, budget)", vec![DYN_TYPE, DYN_TYPE], spend)?;
    env.add_member_overload("@join", "list.@join()", LIST_TYPE, vec![], join)?;
    env.add_member_overload("@join", "list.@join(string)", LIST_TYPE, vec![STRING_TYPE], join)?;
    let all = vec![STRING_TYPE, STRING_TYPE];
    env.add_member_overload("@replace", "string.@replace(string, string)", STRING_TYPE, all, replace)?;
    let limited = vec![STRING_TYPE, STRING_TYPE, INT_TYPE];
    env.add_member_overload("@replace", "string.@replace(string, string, int)", STRING_TYPE, limited, replace)
}

/// Adds a full budget to the context of one evaluation.
pub(super) fn add_to(context: &mut Context<'_, '_>) {
    context.add_variable_as_val(BUDGET, Box::new(EvaluationBudget(Arc::new(AtomicUsize::new(LARGEST)))));
}

/// Passes each value of the tree that can grow through [`SPEND`].
pub(super) fn bound(node: &mut IdedExpr) {
    match &mut node.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => bound(&mut select.operand),
        Expr::List(list) => list.elements.iter_mut().for_each(bound),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| bound_entry(&mut entry.expr)),
        Expr::Struct(literal) => literal.entries.iter_mut().for_each(|entry| bound_entry(&mut entry.expr)),
        Expr::Comprehension(looped) => bound_loop(looped),
        Expr::Call(call) => {
            bound_parts(call);
            if GROWING.contains(&call.func_name.as_str()) {
                charge(node);
            }
        }
    }
}

fn bound_entry(entry: &mut EntryExpr) {
    match entry {
        EntryExpr::StructField(field) => bound(&mut field.value),
        EntryExpr::MapEntry(entry) => {
            bound(&mut entry.key);
            bound(&mut entry.value);
        }
    }
}

fn bound_parts(call: &mut CallExpr) {
    call.target.iter_mut().for_each(|target| bound(target));
    call.args.iter_mut().for_each(bound);
}

fn bound_loop(looped: &mut ComprehensionExpr) {
    bound(&mut looped.iter_range);
    charge(&mut looped.iter_range);
    bound(&mut looped.accu_init);
    bound(&mut looped.loop_cond);
    bound_step(&mut looped.loop_step, &looped.accu_var);
    bound(&mut looped.result);
}

/// Bounds the step of a loop, `result + [element]` in CEL's expansion of `map` and `filter`.
///
/// Only the added element is charged. Charging the sum, as for other additions, would charge every iteration for all
/// elements that earlier iterations added: a loop over n elements would cost n² instead of n.
fn bound_step(step: &mut IdedExpr, result: &str) {
    let Expr::Call(call) = &mut step.expr else { return bound(step) };
    let is_result = |node: &IdedExpr| matches!(&node.expr, Expr::Ident(name) if name == result);
    match (call.func_name.as_str(), call.args.as_mut_slice()) {
        (operators::CONDITIONAL, [guard, kept, _]) => {
            bound(guard);
            bound_step(kept, result);
        }
        (operators::ADD, [before, added]) if is_result(before) => match &mut added.expr {
            Expr::List(list) => list.elements.iter_mut().for_each(|element| {
                bound(element);
                charge(element);
            }),
            _ => bound(added),
        },
        _ => bound_parts(call),
    }
}

fn charge(node: &mut IdedExpr) {
    let id = node.id;
    let mut made = std::mem::take(node);
    if let Expr::Call(call) = &mut made.expr
        && let Some((_, guarded)) = MULTIPLYING.iter().find(|(name, _)| *name == call.func_name)
    {
        call.func_name = (*guarded).to_owned();
    }
    let budget = IdedExpr { id, expr: Expr::Ident(BUDGET.to_owned()) };
    let call = CallExpr { func_name: SPEND.to_owned(), target: None, args: vec![made, budget] };
    *node = IdedExpr { id, expr: Expr::Call(call) };
}

/// Returns its first argument after deducting its size from the budget, which is the second.
fn spend<'b, 'v>(mut arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let budget = arguments.pop();
    let budget = budget.as_ref().and_then(|budget| budget.downcast_ref::<EvaluationBudget>());
    let (Some(made), Some(EvaluationBudget(left))) = (arguments.pop(), budget) else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    // The load and the store need not be one atomic operation: a single thread evaluates an expression. The budget is
    // atomic only because CEL requires values to be `Sync`.
    let rest = deduct(made.as_ref(), left.load(Ordering::Relaxed)).ok_or_else(too_large)?;
    left.store(rest, Ordering::Relaxed);
    Ok(made)
}

/// Deducts the size of `value` from `budget` and returns the rest, or none if it doesn't suffice. Visits no more of the
/// value than the budget pays for.
fn deduct(value: &dyn Val, budget: usize) -> Option<usize> {
    let rest = budget.checked_sub(1)?;
    if let Some(text) = value.downcast_ref::<CelString<'_>>() {
        rest.checked_sub(text.inner().len())
    } else if let Some(bytes) = value.downcast_ref::<CelBytes<'_>>() {
        rest.checked_sub(bytes.inner().len())
    } else if let Some(list) = value.downcast_ref::<CelList<'_>>() {
        list.inner().iter().try_fold(rest, |rest, item| deduct(item.as_ref(), rest))
    } else if let Some(map) = value.downcast_ref::<CelMap<'_>>() {
        map.inner().iter().try_fold(rest, |rest, (key, item)| deduct(item.as_ref(), deduct(key.inner(), rest)?))
    } else {
        Some(rest)
    }
}

fn too_large() -> ExecutionError {
    ExecutionError::function_error(SPEND, format!("its values take more than {LARGEST} bytes"))
}

fn argument<'a>(arguments: &'a [CowVal<'_, '_>], index: usize) -> Result<&'a str, ExecutionError> {
    let text = arguments.get(index).and_then(|argument| argument.downcast_ref::<CelString<'_>>());
    text.map(CelString::inner).ok_or_else(ExecutionError::missing_argument_or_target)
}

#[expect(clippy::needless_pass_by_value, reason = "CEL passes arguments by value")]
fn join<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let between = if arguments.len() > 1 { argument(&arguments, 1)? } else { "" };
    let list = arguments.first().and_then(|list| list.downcast_ref::<CelList<'_>>());
    let items = list.ok_or_else(ExecutionError::missing_argument_or_target)?.inner().iter();
    let items = items.map(|item| item.downcast_ref::<CelString<'_>>().map(CelString::inner));
    let items: Option<Vec<&str>> = items.collect();
    let items = items.ok_or_else(|| ExecutionError::function_error("join", "every item must be a string"))?;
    let own: usize = items.iter().map(|item| item.len()).sum();
    fits(own.saturating_add(items.len().saturating_mul(between.len())))?;
    Ok(CowVal::owned(CelString::from(items.join(between))))
}

#[expect(clippy::needless_pass_by_value, reason = "CEL passes arguments by value")]
fn replace<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let (text, from, to) = (argument(&arguments, 0)?, argument(&arguments, 1)?, argument(&arguments, 2)?);
    let most = arguments.get(3).and_then(|count| count.downcast_ref::<CelInt>());
    // A negative count replaces all occurrences.
    let most = most.and_then(|count| usize::try_from(*count.inner()).ok()).unwrap_or(usize::MAX);
    let count = text.matches(from).take(most).count();
    fits(text.len().saturating_add(count.saturating_mul(to.len())))?;
    Ok(CowVal::owned(CelString::from(text.replacen(from, to, most))))
}

fn fits(size: usize) -> Result<(), ExecutionError> {
    if size > LARGEST { Err(too_large()) } else { Ok(()) }
}

/// The rest of an evaluation's budget. Clones share it.
#[derive(Clone, Debug)]
struct EvaluationBudget(Arc<AtomicUsize>);

static BUDGET_TYPE: Type = Type::new_unspecified_type(BUDGET);

impl Val for EvaluationBudget {
    fn get_type(&self) -> &Type {
        EvaluationBudget::cel_type()
    }

    fn cel_type() -> &'static Type {
        &BUDGET_TYPE
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for EvaluationBudget {}
