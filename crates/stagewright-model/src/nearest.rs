//! Suggestions for misspelt names.

/// The known name that is most similar to `name`; none if all of them differ in more than a third of its bytes.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (name.len() / 3).max(1);
    known
        .into_iter()
        // The difference in length is a lower bound of the distance, and much cheaper to compute.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= allowed && !candidate.is_empty())
        .map(|candidate| (strsim::osa_distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}
