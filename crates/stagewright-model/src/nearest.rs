//! "Did you mean …?"

/// The known name that a misspelt one is most likely meant to be; none when all are far off.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.len() / 3).max(1);
    known
        .into_iter()
        // The lengths bound the distance from below, and comparing them costs next to nothing.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed && !candidate.is_empty())
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}
