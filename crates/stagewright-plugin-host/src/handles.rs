//! What the host keeps for a guest's handles, within the guest's memory limit.

use wasmtime::component::{Resource, ResourceTable, ResourceTableError};

use crate::limits::HandleMemory;

/// The most handles that a guest may hold at a time.
const HANDLES: usize = 16 * 1024;

/// Room beside [`HANDLES`] for errors, so that a guest which holds too many handles can be told.
const ERRORS: usize = 16;

/// Counts what belongs to no handle; not the number of a handle.
const WITHOUT_HANDLE: u32 = u32::MAX;

/// The values behind a guest's handles, and the memory that they take.
#[derive(Debug)]
pub(crate) struct Handles {
    table: ResourceTable,
    held: usize,
    memory: HandleMemory,
}

impl Handles {
    /// `memory`: the guest's limit in bytes, which also holds for its handles.
    pub(crate) fn new(memory: u64) -> Handles {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES + ERRORS);
        Handles { table, held: 0, memory: HandleMemory::new(memory) }
    }

    /// A handle of a value of negligible size.
    pub(crate) fn push<T: Send + 'static>(&mut self, value: T) -> Result<Resource<T>, ResourceTableError> {
        if self.held >= HANDLES {
            return Err(ResourceTableError::Full);
        }
        self.push_error(value)
    }

    /// Like [`Handles::push`], for an error, which may be the one that says that there are too many handles.
    pub(crate) fn push_error<T: Send + 'static>(&mut self, value: T) -> Result<Resource<T>, ResourceTableError> {
        let handle = self.table.push(value)?;
        self.held += 1;
        Ok(handle)
    }

    /// A handle of a value that takes `bytes`.
    pub(crate) fn push_sized<T: Send + 'static>(&mut self, value: T, bytes: usize) -> wasmtime::Result<Resource<T>> {
        let handle = self.push(value)?;
        self.keep(&handle, bytes)?;
        Ok(handle)
    }

    pub(crate) fn get<T: 'static>(&self, handle: &Resource<T>) -> Result<&T, ResourceTableError> {
        self.table.get(handle)
    }

    pub(crate) fn get_mut<T: 'static>(&mut self, handle: &Resource<T>) -> Result<&mut T, ResourceTableError> {
        self.table.get_mut(handle)
    }

    /// The value of a handle that is about to take `bytes` more. Fails when the guest's limit is exceeded.
    pub(crate) fn grow<T: 'static>(&mut self, handle: &Resource<T>, bytes: usize) -> wasmtime::Result<&mut T> {
        self.keep(handle, bytes)?;
        Ok(self.table.get_mut(handle)?)
    }

    /// Counts `bytes` more for a handle. Fails when the guest's limit is exceeded.
    pub(crate) fn keep<T: 'static>(&mut self, handle: &Resource<T>, bytes: usize) -> wasmtime::Result<()> {
        Ok(self.memory.take(handle.rep(), bytes)?)
    }

    /// Counts `bytes` that are kept for as long as the guest lives.
    pub(crate) fn keep_always(&mut self, bytes: usize) -> wasmtime::Result<()> {
        Ok(self.memory.take(WITHOUT_HANDLE, bytes)?)
    }

    /// Takes a value out, and releases its memory.
    pub(crate) fn delete<T: 'static>(&mut self, handle: Resource<T>) -> Result<T, ResourceTableError> {
        self.memory.drop(handle.rep());
        let value = self.table.delete(handle)?;
        self.held -= 1;
        Ok(value)
    }
}
