//! Converts the engine's types to the wire types of `stagewright-api`.
//!
//! Every conversion destructures its value completely, without `..`: a new field or variant of the engine doesn't compile
//! until its form on the wire is decided here. A field that is renamed in the engine keeps its name on the wire.

mod event;
mod gate;
mod measure;
mod outcome;
mod release;
mod source;
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

/// A type of the engine with a wire type.
pub trait ToWire {
    /// The wire type.
    type Wire;

    /// Converts to the wire type.
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
