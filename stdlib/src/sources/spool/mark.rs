//! Marks a file as done under a name that nothing else has. Blocks.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::super::tail::identity::Inode;

/// A way to give a file another name that fails when there is something of that name.
type Way = fn(&Path, &Path) -> io::Result<()>;

/// Not every file system has the first; few have neither.
const WAYS: [Way; 2] = [rename_exclusively, link_and_unlink];

/// Renames a file. Fails with [`io::ErrorKind::AlreadyExists`] when another file has the name: that one is never
/// overwritten. A file that has both names already (after a crash between two steps) loses the first one.
pub fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    rename_by(from, to, &WAYS)
}

/// Whether both names lead to one file.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    let inode = |path| fs::symlink_metadata(path).ok().map(|meta| Inode::of(&meta));
    inode(one).is_some_and(|found| inode(other) == Some(found))
}

/// Whether a file got its second name and a crash kept it from losing its first.
pub fn is_half_renamed(meta: &fs::Metadata, from: &Path, to: &Path) -> bool {
    meta.nlink() > 1 && is_same_file(from, to)
}

fn rename_by(from: &Path, to: &Path, ways: &[Way]) -> io::Result<()> {
    for way in ways {
        match way(from, to) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same_file(from, to) => {
                return fs::remove_file(from);
            }
            Err(error) if is_unsupported(&error) => {}
            other => return other,
        }
    }
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "the file system can neither rename without overwriting nor make hard links",
    ))
}

fn is_unsupported(error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    [Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::PERM, Errno::MLINK].contains(&errno)
}

fn rename_exclusively(from: &Path, to: &Path) -> io::Result<()> {
    Ok(renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
}

fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    fs::hard_link(from, to)?;
    fs::remove_file(from).inspect_err(|_| {
        // As it was before; when that fails, too, the next start finds two names of one file.
        let _ = fs::remove_file(to);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(_: &Path, _: &Path) -> io::Result<()> {
        Err(Errno::INVAL.into())
    }

    fn refuses_links(_: &Path, _: &Path) -> io::Result<()> {
        Err(Errno::PERM.into())
    }

    #[test]
    fn a_target_is_never_overwritten_whichever_way_is_taken() {
        let ways: [&[Way]; 4] =
            [&WAYS, &[rename_exclusively], &[link_and_unlink], &[refuses, link_and_unlink]];
        for (index, ways) in ways.into_iter().enumerate() {
            let place = tempfile::tempdir().unwrap();
            let (from, to) = (place.path().join("a"), place.path().join("a.done"));
            fs::write(&from, "new").unwrap();
            fs::write(&to, "mine").unwrap();
            let error = rename_by(&from, &to, ways).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists, "{index}");
            assert_eq!((fs::read(&from).unwrap(), fs::read(&to).unwrap()), (b"new".into(), b"mine".into()));
            fs::remove_file(&to).unwrap();
            rename_by(&from, &to, ways).unwrap();
            assert_eq!(fs::read(&to).unwrap(), b"new", "{index}");
            assert!(!from.exists(), "{index}");
        }
    }

    #[test]
    fn without_any_safe_way_nothing_is_renamed() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("a"), place.path().join("a.done"));
        fs::write(&from, "new").unwrap();
        let error = rename_by(&from, &to, &[refuses, refuses_links]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(from.exists() && !to.exists());
    }

    #[test]
    fn a_crash_between_link_and_unlink_is_finished() {
        for ways in [&WAYS[..], &WAYS[1..]] {
            let place = tempfile::tempdir().unwrap();
            let (from, to) = (place.path().join("a"), place.path().join("a.done"));
            fs::write(&from, "new").unwrap();
            fs::hard_link(&from, &to).unwrap();
            assert!(is_half_renamed(&fs::metadata(&from).unwrap(), &from, &to));
            rename_by(&from, &to, ways).unwrap();
            assert!(!from.exists());
            assert_eq!(fs::read(&to).unwrap(), b"new");
        }
    }
}
