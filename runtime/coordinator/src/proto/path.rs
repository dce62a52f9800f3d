//! What a path may look like.

use super::Code;

/// Whether `path` names a znode, as `PathUtils.validatePath` has it: it begins with `/`, ends without one (but for the
/// root), has no component that is empty, `.` or `..`, and none of the characters that ZooKeeper forbids. The name of
/// a `sequential` znode gets a number appended, so its last component may be any of the three.
///
/// # Errors
/// [`Code::BadArguments`].
pub fn check_path(path: &str, sequential: bool) -> Result<(), Code> {
    let Some(inner) = path.strip_prefix('/') else {
        return Err(Code::BadArguments);
    };
    if inner.is_empty() {
        return Ok(());
    }
    let mut components = inner.split('/').peekable();
    while let Some(component) = components.next() {
        let numbered = sequential && components.peek().is_none();
        if !numbered && matches!(component, "" | "." | "..") {
            return Err(Code::BadArguments);
        }
    }
    if inner.bytes().all(|byte| (0x20..0x7f).contains(&byte)) || inner.chars().all(is_allowed) {
        return Ok(());
    }
    Err(Code::BadArguments)
}

/// The path of the parent: `/` for what is right below the root, `None` for the root and for what is no path.
pub fn parent_of(path: &str) -> Option<&str> {
    match path.rfind('/') {
        None => None,
        Some(0) if path.len() == 1 => None,
        Some(0) => Some("/"),
        Some(at) => Some(&path[..at]),
    }
}

/// ZooKeeper looks at UTF-16 units, so what lies beyond the basic plane (a pair of surrogates there) is refused too.
fn is_allowed(character: char) -> bool {
    !matches!(
        character,
        '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{e000}'..='\u{f8ff}'
            | '\u{fff0}'..='\u{ffff}'
            | '\u{10000}'..='\u{10ffff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_a_path() {
        for good in ["/", "/a", "/a/b", "/.a/..b/a.", "/ü/漢", "/a b"] {
            assert_eq!(check_path(good, false), Ok(()), "{good:?}");
        }
        for bad in [
            "",
            "a",
            "//",
            "/a/",
            "/a//b",
            "/.",
            "/..",
            "/a/./b",
            "/a/..",
            "/\0",
            "/a\u{1f}",
            "/\u{7f}",
            "/\u{e000}",
            "/😀",
        ] {
            assert_eq!(check_path(bad, false), Err(Code::BadArguments), "{bad:?}");
        }
        for good in ["/", "/q/", "/q/.", "/q/.."] {
            assert_eq!(check_path(good, true), Ok(()), "{good:?}");
        }
        for bad in ["", "//", "/a//", "/./", "/../x"] {
            assert_eq!(check_path(bad, true), Err(Code::BadArguments), "{bad:?}");
        }
    }

    #[test]
    fn parents() {
        assert_eq!(parent_of("/"), None);
        assert_eq!(parent_of("a"), None);
        assert_eq!(parent_of("/a"), Some("/"));
        assert_eq!(parent_of("/a/b"), Some("/a"));
    }
}
