//! What is deleted from the bucket: releases beyond those that are kept, and their files at the root. Nothing else is: each key
//! comes from the list of a release.

use std::collections::BTreeSet;

use aws::s3::{Bucket, Listed};
use stagewright_sdk::text::count;
use stagewright_sdk::{Result, log};

use crate::config::Config;
use crate::pointer::Known;
use crate::release::{FileList, file_key, key};

/// Deletes what a finished deploy leaves behind: pages of the release before that `current` doesn't have, and the releases
/// beyond those to keep.
pub(crate) fn after_switch(bucket: &Bucket, config: &Config, current: &str, previous: Option<&str>) -> Result<()> {
    let serving = FileList::read(bucket, config, current)?;
    let replaced = previous.map(|previous| FileList::read(bucket, config, previous)).transpose()?.flatten();
    if let (true, Some(serving), Some(replaced)) = (config.root, &serving, &replaced) {
        let is_gone = |path: &&String| !serving.files.contains_key(*path);
        let pages = replaced.files.iter().filter(|(_, file)| file.is_page()).map(|(path, _)| path).filter(is_gone);
        bucket.delete(&pages.map(|path| config.key(path)).collect::<Vec<_>>())?;
    }
    // A newer deploy may have begun since, and want one of the releases.
    let wanted = Known::read(bucket, config)?.pointer.candidate.map(|candidate| candidate.release);
    let in_use = [Some(current), previous, wanted.as_deref()];
    let releases = releases(bucket, config)?;
    let (used, others): (Vec<&String>, Vec<&String>) =
        releases.iter().partition(|release| in_use.contains(&Some(release.as_str())));
    let mut room = (config.keep as usize + 1).saturating_sub(used.len());
    let (mut needed, mut surplus) = (BTreeSet::new(), Vec::new());
    for release in used.iter().chain(&others) {
        let Some(list) = FileList::read(bucket, config, release)? else { continue };
        let is_used = used.contains(release);
        if is_used || (list.is_complete && room > 0) {
            room = room.saturating_sub(usize::from(!is_used));
            needed.extend(list.files.into_keys());
        } else {
            surplus.push(*release);
        }
    }
    if !surplus.is_empty() {
        log::info(format!("deleting {}", count(surplus.len() as u64, "earlier release")));
    }
    surplus.into_iter().try_for_each(|release| remove(bucket, config, release, &needed))
}

/// Deletes a release. Its files at the root stay if they are `needed` there.
pub(crate) fn remove(bucket: &Bucket, config: &Config, release: &str, needed: &BTreeSet<String>) -> Result<()> {
    let Some(mut list) = FileList::read(bucket, config, release)? else { return Ok(()) };
    // From now on nothing is rolled back to it, and if this is interrupted, the next deploy goes on with it.
    list.is_complete = false;
    list.write(bucket, config, release)?;
    let at_root = list.files.keys().filter(|path| config.root && !needed.contains(*path)).map(|path| config.key(path));
    let own = list.files.keys().map(|path| file_key(config, release, path));
    bucket.delete(&at_root.chain(own).collect::<Vec<_>>())?;
    bucket.delete(&[key(config, release)])
}

/// The names of all releases in the bucket, the newest first.
pub(crate) fn releases(bucket: &Bucket, config: &Config) -> Result<Vec<String>> {
    let folder = config.key("releases/");
    let mut lists = bucket.list(&folder)?;
    lists.sort_by(|one, other| other.modified.cmp(&one.modified));
    let name = |listed: &Listed| {
        let name = listed.key.strip_prefix(&folder)?.strip_suffix(".json")?;
        let is_release = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_release.then(|| name.to_owned())
    };
    Ok(lists.iter().filter_map(name).collect())
}
