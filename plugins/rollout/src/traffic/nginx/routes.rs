//! The file by which nginx chooses the upstream of a request by its headers.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::header_route::HeaderMatch;
use crate::traffic::Share;

/// The content of the file: a map that sets `$UPSTREAM_route` to the name of an upstream.
///
/// Each header has a map of its own, since nginx matches one value at a time; the last map joins what they found.
pub(super) fn file(upstream: &str, shares: &[Share]) -> String {
    let head = "# Written by Stagewright at each step of a deploy.\n";
    let Some(share) = shares.iter().find(|share| !share.conditions.is_empty()) else {
        return format!("{head}map \"\" ${upstream}_route {{ default {upstream}; }}\n");
    };
    let mut text = format!("{head}upstream {upstream}_matched {{ server {} max_fails=0; }}\n", share.address);
    let mut found = String::new();
    for (index, (variable, conditions)) in by_variable(&share.conditions).into_iter().enumerate() {
        let result = format!("${upstream}_match_{index}");
        let _ = writeln!(text, "map {variable} {result} {{");
        for condition in conditions {
            let _ = writeln!(text, "  {} 1;", quoted(&format!("~{}", condition.header_value.expression())));
        }
        text.push_str("}\n");
        found.push_str(&result);
    }
    let _ = writeln!(text, "map \"{found}\" ${upstream}_route {{ default {upstream}; ~1 {upstream}_matched; }}");
    text
}

/// The conditions by the variable of their header.
fn by_variable(conditions: &[HeaderMatch]) -> BTreeMap<String, Vec<&HeaderMatch>> {
    let mut variables = BTreeMap::<String, Vec<&HeaderMatch>>::new();
    for condition in conditions {
        let name = condition.header_name.to_ascii_lowercase().replace('-', "_");
        variables.entry(format!("$http_{name}")).or_default().push(condition);
    }
    variables
}

/// A parameter of nginx's configuration, in which a backslash escapes a quote and itself.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header_route::HeaderValue;

    #[test]
    fn requests_that_meet_a_condition_get_the_upstream_of_the_release() {
        let condition =
            |name: &str, value: HeaderValue| HeaderMatch { header_name: name.to_owned(), header_value: value };
        let conditions = vec![
            condition("X-Canary", HeaderValue::Exact("a.b\"c".to_owned())),
            condition("Cookie", HeaderValue::Regex(r"(.*;\s*)?canary=yes(;.*)?".to_owned())),
            condition("x-canary", HeaderValue::Prefix("v2".to_owned())),
        ];
        let shares = [Share::new("a:1", 90), Share { conditions, ..Share::new("b:2", 10) }];
        let expected = r#"# Written by Stagewright at each step of a deploy.
upstream app_matched { server b:2 max_fails=0; }
map $http_cookie $app_match_0 {
  "~^(?:(.*;\\s*)?canary=yes(;.*)?)$" 1;
}
map $http_x_canary $app_match_1 {
  "~^(?:a\\.b\"c)$" 1;
  "~^(?:v2)" 1;
}
map "$app_match_0$app_match_1" $app_route { default app; ~1 app_matched; }
"#;
        assert_eq!(file("app", &shares), expected);
    }

    #[test]
    fn without_conditions_all_requests_get_the_upstream() {
        let expected = "# Written by Stagewright at each step of a deploy.\nmap \"\" $app_route { default app; }\n";
        assert_eq!(file("app", &[Share::all("a:1")]), expected);
    }
}
