//! URLs of sinks as errors and logs name them. Whatever can hold a secret is left out: users and passwords, queries and
//! fragments.
//!
//! What is shown need not be a URL: it may be the text that was refused because it is none.

/// A URL without what may be secret: no user, no query, no fragment. Each is marked where it was.
///
/// ```
/// use tidegate_runtime::spec::shown;
///
/// assert_eq!(shown("https://me:pass@host/a?key=k"), "https://…@host/a?…");
/// assert_eq!(shown("delay:1MB/s,file:///a"), "delay:1MB/s,file:///a");
/// ```
pub fn shown(url: &str) -> String {
    if let Some((delay, inner)) = url.strip_prefix("delay:").and_then(|rest| rest.split_once(',')) {
        return format!("delay:{},{}", shown(delay), shown(inner));
    }
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (scheme, rest) = url.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).unzip();
    let (rest, scheme) =
        (rest.unwrap_or(url), scheme.map_or(String::new(), |scheme| format!("{scheme}:")));
    let slashes = if rest.starts_with("//") { "//" } else { "" };
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (place, options) = rest.split_at(end);
    match place.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}{slashes}…@{host}{}", mark(options)),
        // A password with such a letter in it would end up in the place.
        None if options.contains('@') => format!("{scheme}{slashes}…"),
        None => format!("{scheme}{slashes}{place}{}", mark(options)),
    }
}

fn mark(options: &str) -> &'static str {
    match options.as_bytes().first() {
        Some(b'?') => "?…",
        Some(_) => "#…",
        None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_secret_is_left_out() {
        for (url, wanted) in [
            ("https://u:hunter2@h/a", "https://…@h/a"),
            ("https://h/a?key=hunter2", "https://h/a?…"),
            ("https://h/a#token=hunter2", "https://h/a#…"),
            ("postgres://u:hun?hunter2@h/d", "postgres://…"),
            ("postgres://u:hun/hunter2@h/d?table=t", "postgres://…@h/d?…"),
            ("s3://lake/a?endpoint=http://u:hunter2@h", "s3://…"),
            ("delay:bad,https://u:hunter2@h/", "delay:bad,https://…@h/"),
            ("delay:https://u:hunter2@h/", "delay:…@h/"),
            ("delay:1MB/s?write=1s,file:///a?b=hunter2", "delay:1MB/s?…,file:///a?…"),
            ("u:hunter2@h", "u:…@h"),
            ("hunter2@h:80", "…@h:80"),
        ] {
            assert_eq!(shown(url), wanted);
        }
    }

    #[test]
    fn the_rest_stays() {
        for url in ["blackhole:", "file:///a/b%20c", "orders", "ftp://host:21/a", ""] {
            assert_eq!(shown(url), url);
        }
    }
}
