//! From the engine's types to those that programs are given.
//!
//! Every conversion names each field and each variant, and ignores none: what is added to the engine doesn't compile
//! until it is decided here how programs see it. A field that is renamed in the engine keeps its name for them.

mod event;
mod gate;
mod outcome;
mod release;
mod source;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

/// What has a form for programs.
pub trait ToWire {
    /// That form.
    type Wire;

    /// Converts it.
    fn to_wire(&self) -> Self::Wire;
}

impl<T: ToWire> ToWire for Option<T> {
    type Wire = Option<T::Wire>;

    fn to_wire(&self) -> Option<T::Wire> {
        self.as_ref().map(T::to_wire)
    }
}

impl<T: ToWire> ToWire for Vec<T> {
    type Wire = Vec<T::Wire>;

    fn to_wire(&self) -> Vec<T::Wire> {
        self.iter().map(T::to_wire).collect()
    }
}

impl<T: ToWire> ToWire for Box<T> {
    type Wire = T::Wire;

    fn to_wire(&self) -> T::Wire {
        T::to_wire(self)
    }
}

impl<T: ToWire> ToWire for Arc<T> {
    type Wire = T::Wire;

    fn to_wire(&self) -> T::Wire {
        T::to_wire(self)
    }
}

impl<K: Clone + Ord, T: ToWire> ToWire for BTreeMap<K, T> {
    type Wire = BTreeMap<K, T::Wire>;

    fn to_wire(&self) -> BTreeMap<K, T::Wire> {
        self.iter().map(|(key, value)| (key.clone(), value.to_wire())).collect()
    }
}
