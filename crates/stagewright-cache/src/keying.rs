//! Computes the key of a stage's result. Everything that the stage's programs can read falls into one of four classes.
//!
//! **In the key**, so that a change leads to another result:
//! - the plugin by digest, `with` and `env` evaluated, every permission, every limit, the globs of `inputs` and
//!   `outputs`, whether it is a rehearsal, whether programs are confined;
//! - the inputs: names, kinds, permission bits, contents, targets of links, empty folders;
//! - files of others in the paths that the stage may write; see below;
//! - programs and toolchains that it can start, copies of configuration files included (`tools`);
//! - variables that `permissions.env` lets through, and `LANG`;
//! - outputs of the stages that it needs, and artifacts of all earlier stages;
//! - the trust tier.
//!
//! **Fixed by the sandbox**, the same for every attempt: an empty home and `/tmp`, `/dev`, the host's loopback, the
//! number of visible processes, the modes of the folders above the mounted paths.
//!
//! **Absent**: other files of the workspace, `.git` unless `inputs` names it, the state folder, other variables,
//! credentials, sockets, the network except for package hosts.
//!
//! **Not in the key, as documented in `docs/cache.md`**: the system's own files (`/usr`, the public parts of `/etc`), the
//! values of `PATH` and `HOME`, the workspace's path, time, random numbers, host name, kernel, number of processors, the
//! user's id; responses of package hosts; the stage's own download caches, and the files that it left itself in the paths
//! that it may write.
//!
//! A stage can read the paths that it may write. The files there enter the key as follows:
//!
//! | file | in the key |
//! |---|---|
//! | left by this stage and unchanged since | no: an incremental build continues from it |
//! | not excluded by a `.gitignore` | by content |
//! | ignored, an output of an earlier stage | by content |
//! | ignored, in a path that a cached earlier stage may write | by that stage's key |
//! | ignored, in a path that another earlier stage may write | by content |
//! | ignored, once runs of another tier have used this workspace | by content |
//! | ignored, any other | no: working files of build tools, such as those of people's own builds |

use std::collections::BTreeMap;
use std::io;

use stagewright_engine::{AttemptRequest, EarlierStage};
use stagewright_model::{PathPattern, Permissions};

use crate::digest::Digest;
use crate::globs::{Globs, is_within};
use crate::inner::{CacheRunner, needs_of};
use crate::leftovers::Leftovers;
use crate::manifest::{KeyContext, KeyManifest};
use crate::scan::{ScannedEntry, with_folders};
use crate::store::{LastWork, ResultStore};
use crate::tier::Tier;
use crate::tree::Tree;
use crate::witness::ForeignFiles;

/// The key of a stage's result, with everything that it was computed from.
pub(crate) struct CacheKey {
    /// The keys under which the result may be stored, in order of preference; the last is that of the run's own tier.
    pub(crate) keys: Vec<(Tier, Digest)>,
    /// The key before it is combined with a tier.
    pub(crate) base_key: Digest,
    pub(crate) manifest: KeyManifest,
    /// The inputs as they were found; `files` has their content.
    pub(crate) found: Vec<ScannedEntry>,
    pub(crate) files: Tree,
    /// All files in the paths that the stage may write.
    pub(crate) in_writable: Vec<ScannedEntry>,
    /// Those among them that enter the key by content.
    pub(crate) foreign_tree: Tree,
    /// Files other than the inputs that must not change while the stage runs.
    pub(crate) foreign: ForeignFiles,
    pub(crate) named: DeclaredPaths,
    /// See [`ResultStore::stage`].
    pub(crate) stage: Digest,
}

/// The reason why the results of a stage that may write these paths are never cached, if they aren't.
pub fn kept_from_caching(writes: &[PathPattern]) -> Option<&'static str> {
    let names_git = |globs: Globs| globs.bases().iter().any(|base| is_within(base, ".git"));
    Globs::new(writes)
        .is_ok_and(names_git)
        .then_some("it may write `.git`, which git and other tools read and change while it runs")
}

/// The globs of a stage's declaration and permissions.
pub(crate) struct DeclaredPaths {
    pub(crate) inputs: Globs,
    pub(crate) outputs: Globs,
    reads: Globs,
    pub(crate) writes: Globs,
    /// The inputs and the writable paths together.
    all: Globs,
    /// Whether the inputs include git's own files.
    has_git: bool,
    /// The writable paths whose files enter the key by content even if they are ignored.
    in_full: Globs,
}

impl CacheKey {
    /// The tier and key under which the attempt's result is stored.
    pub(crate) fn own(&self) -> &(Tier, Digest) {
        &self.keys[self.keys.len() - 1]
    }
}

impl DeclaredPaths {
    /// The declared paths of the request; a stage that isn't cached declares no inputs and outputs.
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

    /// Whether the path is a declared input that the stage may read and doesn't produce itself.
    fn is_input(&self, path: &str) -> bool {
        self.inputs.name(path) && !self.outputs.matches(path) && (self.reads.matches(path) || self.writes.matches(path))
    }
}

impl CacheRunner {
    /// Computes the key of the attempt's result.
    pub(crate) fn cache_key(&self, request: &AttemptRequest) -> io::Result<CacheKey> {
        if request.plugin.is_none() {
            return Err(io::Error::other("the digest of its plugin is unknown"));
        }
        if request.rehearsal.as_ref().is_some_and(|terms| terms.real != Permissions::default()) {
            return Err(io::Error::other("this rehearsal grants it more permissions than a real run"));
        }
        let stage = ResultStore::stage(&self.config.tier, &self.config.file, &request.stage_id);
        let (in_full, keys_before) = self.content_keyed_paths(request)?;
        let named = DeclaredPaths::of(request, &in_full)?;
        let (found, in_writable) = self.look(&named)?;
        let foreign_tree = self.left_by_others(&named, &in_writable, &request.stage_id);
        let reserved = self.reserved(&named);
        let workspace = self.workspace(&reserved);
        let files = workspace.read(&found)?;
        let variables = self.config.machine.variables(&request.permissions);
        let tools = self.tools.of(request, self.config.machine.as_ref(), &self.index, &self.config.workspace)?;
        let foreign = ForeignFiles::of(&foreign_tree, &named.outputs, tools.own);
        let foreign_tree = workspace.read(&foreign_tree)?;
        let artifacts = self.published.before(&request.run, &needs_of(request));
        let around = KeyContext {
            sandboxed: self.config.sandboxed,
            variables: &variables,
            tools: &tools.digests,
            artifacts: &artifacts,
            files: &files,
            found: &foreign_tree,
            before: &keys_before,
        };
        let manifest = KeyManifest::of(request, &around);
        let base_key = manifest.key();
        let keys = self.config.tier.sources().into_iter().map(|tier| {
            let key = tier.key(&base_key);
            (tier, key)
        });
        Ok(CacheKey {
            keys: keys.collect(),
            base_key,
            manifest,
            found,
            files,
            in_writable,
            foreign_tree,
            foreign,
            named,
            stage,
        })
    }

    /// Finds the inputs, and the files in the writable paths that can enter the key.
    fn look(&self, named: &DeclaredPaths) -> io::Result<(Vec<ScannedEntry>, Vec<ScannedEntry>)> {
        let reserved = self.reserved(named);
        let found = self.workspace(&reserved).find_beside(&named.inputs, &named.all)?;
        if named.writes.bases().is_empty() {
            return Ok((with_folders(found, |file| named.is_input(&file.path)), Vec::new()));
        }
        let mut in_writable: Vec<ScannedEntry> =
            found.iter().filter(|file| named.writes.matches(&file.path)).cloned().collect();
        let ignored = self.workspace(&self.config.reserved).find_all(&named.in_full)?.into_iter();
        in_writable.extend(ignored.filter(|file| named.in_full.name(&file.path) && named.writes.matches(&file.path)));
        in_writable.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        in_writable.dedup_by(|left, right| left.path == right.path);
        Ok((with_folders(found, |file| named.is_input(&file.path)), in_writable))
    }

    /// The current state of the inputs.
    pub(crate) fn inputs(&self, named: &DeclaredPaths) -> io::Result<(Vec<ScannedEntry>, Tree)> {
        let (found, _) = self.look(named)?;
        let reserved = self.reserved(named);
        let files = self.workspace(&reserved).read(&found)?;
        Ok((found, files))
    }

    /// The files in the writable paths that can enter the key.
    pub(crate) fn in_writable(&self, named: &DeclaredPaths) -> io::Result<Vec<ScannedEntry>> {
        Ok(self.look(named)?.1)
    }

    /// Globs of the ignored files that enter the key by content, and the keys of the earlier stages that represent other
    /// ignored files.
    fn content_keyed_paths(
        &self,
        request: &AttemptRequest,
    ) -> io::Result<(Vec<PathPattern>, BTreeMap<String, String>)> {
        let own = request.permissions.writable();
        let mut keys = BTreeMap::new();
        if own.is_empty() {
            return Ok((Vec::new(), keys));
        }
        if self.store.record_tier(&self.config.tier)? {
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

    /// The files in the writable paths that are neither inputs nor left by an earlier attempt of the stage. Attempts in a
    /// tier whose results this run uses count as its own.
    fn left_by_others(&self, named: &DeclaredPaths, in_writable: &[ScannedEntry], stage_id: &str) -> Vec<ScannedEntry> {
        if in_writable.is_empty() {
            return Vec::new();
        }
        let own = self.config.tier.sources().into_iter().map(|tier| {
            let stage = ResultStore::stage(&tier, &self.config.file, stage_id);
            Leftovers::load(self.store.leftovers_file(&stage))
        });
        let own: Vec<Leftovers> = own.collect();
        let is_own = |file: &ScannedEntry| own.iter().any(|own| own.contains(file));
        in_writable.iter().filter(|file| !named.is_input(&file.path) && !is_own(file)).cloned().collect()
    }

    /// The key under which an earlier stage last worked here, in this run or a previous one; none if its work had no key.
    fn key_before(&self, before: &EarlierStage) -> Option<Digest> {
        let stage = ResultStore::stage(&self.config.tier, &self.config.file, &before.stage_id);
        match self.store.worked(&stage) {
            LastWork::WithKey(key) if before.is_cached => Some(key),
            _ => None,
        }
    }

    /// The paths that are excluded from inputs. Git's own files are not excluded if `inputs` names them.
    pub(crate) fn reserved(&self, named: &DeclaredPaths) -> Vec<String> {
        let reserved = self.config.reserved.iter().filter(|path| !(named.has_git && *path == ".git"));
        reserved.cloned().collect()
    }
}
