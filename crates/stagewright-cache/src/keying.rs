//! The key of a stage's result: all that its programs can read, each in one of four ways.
//!
//! **In the key**, so that a change of it is another result:
//! - the plugin by digest, `with` and `env` evaluated, every permission, every limit, the globs of `inputs` and
//!   `outputs`, whether it is a rehearsal, whether programs are confined;
//! - the inputs: names, kinds, the nine bits of modes, contents, where links lead, empty folders;
//! - what others left where it may write; see below;
//! - programs and toolchains that it can start, copies of configuration files included (`tools`);
//! - variables that `permissions.env` lets through, and `LANG`;
//! - outputs of the stages it needs, and artifacts of all stages before it;
//! - the trust tier.
//!
//! **Fixed by the sandbox**, the same for every attempt: an empty home and `/tmp`, `/dev`, the host's loopback, the
//! number of processes it sees, the mode of folders above what it is given.
//!
//! **Absent**: other files of the workspace, `.git` unless `inputs` names it, the state folder, other variables,
//! credentials, sockets, the network but for package hosts.
//!
//! **Not in the key, and said so in `docs/cache.md`**: the system's own files (`/usr`, the public parts of `/etc`), the
//! values of `PATH` and `HOME`, the workspace's path, time, random numbers, host name, kernel, number of processors, the
//! user's number; what package hosts answer; the stage's own download caches and what it left itself where it may write.
//!
//! Where it may write, a stage also reads. What of that counts:
//!
//! | found there | counts |
//! |---|---|
//! | what this stage left, untouched since | not: it is where its build goes on |
//! | what `.gitignore` doesn't leave out | by content |
//! | ignored, an output of a stage before it | by content |
//! | ignored, in a place that a cached stage before it may write | by that stage's key |
//! | ignored, in a place that another stage before it may write | by content |
//! | ignored, once runs of another tier worked in this workspace | by content |
//! | ignored, anything else | not: working files of build tools, as people's own builds leave them |

use std::collections::BTreeMap;
use std::io;

use stagewright_engine::{AttemptRequest, EarlierStage};
use stagewright_model::{PathPattern, Permissions};

use crate::digest::Digest;
use crate::globs::{Globs, is_within};
use crate::inner::{Inner, needs_of};
use crate::leftovers::Leftovers;
use crate::manifest::{KeyContext, Manifest};
use crate::scan::{Found, with_folders};
use crate::store::{Store, Worked};
use crate::tier::Tier;
use crate::tree::Tree;
use crate::witness::Others;

/// A stage whose result has a key.
pub(crate) struct CacheKey {
    /// Where its result may be, the better places first; the last one is that of its own.
    pub(crate) keys: Vec<(Tier, Digest)>,
    /// The same for every tier.
    pub(crate) of_all: Digest,
    pub(crate) manifest: Manifest,
    /// The inputs, as they were found and read.
    pub(crate) found: Vec<Found>,
    pub(crate) files: Tree,
    /// What is there where it may write, whosever it is.
    pub(crate) there: Vec<Found>,
    /// What of that counts.
    pub(crate) of_others: Tree,
    /// What of the workspace may be changed meanwhile, beside the inputs.
    pub(crate) others: Others,
    pub(crate) named: DeclaredPaths,
    /// See [`Store::stage`].
    pub(crate) stage: Digest,
}

/// Why no result of a stage that may write there is ever kept, if none is.
pub fn kept_from_caching(writes: &[PathPattern]) -> Option<&'static str> {
    let names_git = |globs: Globs| globs.bases().iter().any(|base| is_within(base, ".git"));
    Globs::new(writes)
        .is_ok_and(names_git)
        .then_some("it may write `.git`, which is read and written without its doing")
}

/// Files, as the stage names them.
pub(crate) struct DeclaredPaths {
    pub(crate) inputs: Globs,
    pub(crate) outputs: Globs,
    reads: Globs,
    pub(crate) writes: Globs,
    /// Inputs, and what it may write.
    all: Globs,
    /// Whether its inputs are of git's own files, too.
    has_git: bool,
    /// What of the places that it may write counts even where it is ignored.
    in_full: Globs,
}

impl CacheKey {
    /// Under which its own result is kept.
    pub(crate) fn own(&self) -> &(Tier, Digest) {
        &self.keys[self.keys.len() - 1]
    }
}

impl DeclaredPaths {
    /// A stage that isn't cached declares nothing.
    pub(crate) fn of(request: &AttemptRequest, in_full: &[PathPattern]) -> io::Result<DeclaredPaths> {
        let granted = &request.permissions;
        let reads = granted.read_only();
        let writable = granted.writable();
        let (inputs, outputs) = match &request.cache {
            Some(asked) if asked.inputs.is_empty() => (&reads[..], &asked.outputs[..]),
            Some(asked) => (&asked.inputs[..], &asked.outputs[..]),
            None => (&[][..], &[][..]),
        };
        let writes = Globs::new(&writable)?;
        if let Some(why) = kept_from_caching(&writable) {
            return Err(io::Error::other(why));
        }
        let inputs_named = Globs::new(inputs)?;
        Ok(DeclaredPaths {
            has_git: inputs_named.bases().iter().any(|base| is_within(base, ".git")),
            inputs: inputs_named,
            outputs: Globs::new(outputs)?,
            reads: Globs::new(&reads)?,
            all: Globs::new(&[inputs, &writable].concat())?,
            writes,
            in_full: Globs::new(in_full)?,
        })
    }

    /// What it declares, as far as it may read it, without what it makes itself.
    fn is_input(&self, path: &str) -> bool {
        self.inputs.name(path) && !self.outputs.matches(path) && (self.reads.matches(path) || self.writes.matches(path))
    }
}

impl Inner {
    /// What the result of the attempt depends on.
    pub(crate) fn keyed(&self, request: &AttemptRequest) -> io::Result<CacheKey> {
        if request.plugin.is_none() {
            return Err(io::Error::other("the digest of its plugin is unknown"));
        }
        if request.rehearsal.as_ref().is_some_and(|terms| terms.real != Permissions::default()) {
            return Err(io::Error::other("this rehearsal grants it more than it has in a real run"));
        }
        let stage = Store::stage(&self.config.tier, &self.config.file, &request.stage_id);
        let (in_full, keys_before) = self.counting_in_full(request)?;
        let named = DeclaredPaths::of(request, &in_full)?;
        let (found, there) = self.look(&named)?;
        let of_others = self.left_by_others(&named, &there, &request.stage_id);
        let reserved = self.reserved(&named);
        let workspace = self.workspace(&reserved);
        let files = workspace.read(&found)?;
        let variables = self.config.machine.variables(&request.permissions);
        let tools = self.tools.of(request, self.config.machine.as_ref(), &self.index, &self.config.workspace)?;
        let others = Others::of(&of_others, &named.outputs, tools.own);
        let of_others = workspace.read(&of_others)?;
        let artifacts = self.published.before(&request.run, &needs_of(request));
        let around = KeyContext {
            sandboxed: self.config.sandboxed,
            variables: &variables,
            tools: &tools.digests,
            artifacts: &artifacts,
            files: &files,
            found: &of_others,
            before: &keys_before,
        };
        let manifest = Manifest::of(request, &around);
        let of_all = manifest.key();
        let keys = self.config.tier.sources().into_iter().map(|tier| {
            let key = tier.key(&of_all);
            (tier, key)
        });
        Ok(CacheKey { keys: keys.collect(), of_all, manifest, found, files, there, of_others, others, named, stage })
    }

    /// Its inputs, and all that is there where it may write, as far as it can count.
    fn look(&self, named: &DeclaredPaths) -> io::Result<(Vec<Found>, Vec<Found>)> {
        let reserved = self.reserved(named);
        let found = self.workspace(&reserved).find_beside(&named.inputs, &named.all)?;
        if named.writes.bases().is_empty() {
            return Ok((with_folders(found, |file| named.is_input(&file.path)), Vec::new()));
        }
        let mut there: Vec<Found> = found.iter().filter(|file| named.writes.matches(&file.path)).cloned().collect();
        let ignored = self.workspace(&self.config.reserved).find_all(&named.in_full)?.into_iter();
        there.extend(ignored.filter(|file| named.in_full.name(&file.path) && named.writes.matches(&file.path)));
        there.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        there.dedup_by(|left, right| left.path == right.path);
        Ok((with_folders(found, |file| named.is_input(&file.path)), there))
    }

    /// The inputs as they are now.
    pub(crate) fn inputs(&self, named: &DeclaredPaths) -> io::Result<(Vec<Found>, Tree)> {
        let (found, _) = self.look(named)?;
        let reserved = self.reserved(named);
        let files = self.workspace(&reserved).read(&found)?;
        Ok((found, files))
    }

    /// What is there where the stage may write, as far as it can count.
    pub(crate) fn there(&self, named: &DeclaredPaths) -> io::Result<Vec<Found>> {
        Ok(self.look(named)?.1)
    }

    /// Globs of what counts by content though it is ignored, and the keys of stages that left the rest of such files.
    fn counting_in_full(&self, request: &AttemptRequest) -> io::Result<(Vec<PathPattern>, BTreeMap<String, String>)> {
        let own = request.permissions.writable();
        let mut keys = BTreeMap::new();
        if own.is_empty() {
            return Ok((Vec::new(), keys));
        }
        if self.store.enter(&self.config.tier)? {
            return Ok((own, keys));
        }
        let own = Globs::new(&own)?;
        let mut in_full = Vec::new();
        for before in request.cache.iter().flat_map(|asked| &asked.before) {
            if !Globs::new(&before.writes)?.may_meet(&own) {
                continue;
            }
            match self.key_before(before) {
                Some(key) => {
                    keys.insert(before.stage_id.clone(), key.to_string());
                    in_full.extend(before.outputs.iter().cloned());
                }
                None => in_full.extend(before.writes.iter().cloned()),
            }
        }
        Ok((in_full, keys))
    }

    /// What of all that is there neither an attempt of the stage left nor its inputs name. What it left in a tier whose
    /// results it takes is as good as its own.
    fn left_by_others(&self, named: &DeclaredPaths, there: &[Found], stage_id: &str) -> Vec<Found> {
        if there.is_empty() {
            return Vec::new();
        }
        let own = self.config.tier.sources().into_iter().map(|tier| {
            let stage = Store::stage(&tier, &self.config.file, stage_id);
            Leftovers::load(self.store.left(&stage))
        });
        let own: Vec<Leftovers> = own.collect();
        let is_own = |file: &Found| own.iter().any(|own| own.hold(file));
        there.iter().filter(|file| !named.is_input(&file.path) && !is_own(file)).cloned().collect()
    }

    /// The key that says what a stage before this one left: in this run, or the last time.
    fn key_before(&self, before: &EarlierStage) -> Option<Digest> {
        let stage = Store::stage(&self.config.tier, &self.config.file, &before.stage_id);
        match self.store.worked(&stage) {
            Worked::WithKey(key) if before.is_cached => Some(key),
            _ => None,
        }
    }

    /// What is excluded from all inputs: git's own files do where `inputs` names them.
    pub(crate) fn reserved(&self, named: &DeclaredPaths) -> Vec<String> {
        let reserved = self.config.reserved.iter().filter(|path| !(named.has_git && *path == ".git"));
        reserved.cloned().collect()
    }
}
