//! Which topic names are allowed, and how a partition's directory is named.
//!
//! The rules are Kafka's own, since its tools and metrics rely on them. It must not know the disk.

use uuid::Uuid;

/// The longest name of a topic, in bytes: with a dash and a partition number it still fits a file name.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// The longest file name that common file systems take, in bytes.
const FILE_NAME_BYTES_MAX: usize = 255;

/// What a directory of a partition on its way out ends with.
pub const DELETED_SUFFIX: &str = "-delete";

/// The topic of the positions that groups commit.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// The topic of the states of transactions.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// True for the topics that the broker keeps for itself.
pub fn is_internal(topic: &str) -> bool {
    topic == CONSUMER_OFFSETS || topic == TRANSACTION_STATE
}

/// Says why `name` cannot be the name of a topic; nothing when it can.
pub fn check_topic_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("the name of a topic is empty".into());
    }
    if name == "." || name == ".." {
        return Err(format!("a topic cannot be named `{name}`"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return Err(format!(
            "the name of a topic has {} characters, more than {TOPIC_NAME_BYTES_MAX}",
            name.len()
        ));
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        None => Ok(()),
        Some(found) => Err(format!(
            "the name of topic `{}` has a `{}`: only ASCII letters, digits, `.`, `_` and `-` are allowed",
            name.escape_debug(),
            found.escape_debug()
        )),
    }
}

/// The form of a name under which two topics are taken for one by tools that write `.` as `_`.
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

/// The name of a partition's directory.
pub fn partition_dir(topic: &str, partition: i32) -> String {
    format!("{topic}-{partition}")
}

/// The topic and partition that a directory's name means.
pub fn parse_partition_dir(name: &str) -> Option<(&str, i32)> {
    let (topic, number) = name.rsplit_once('-')?;
    let canonical = !number.is_empty()
        && number.bytes().all(|b| b.is_ascii_digit())
        && (number == "0" || !number.starts_with('0'));
    let partition = canonical.then(|| number.parse().ok())??;
    check_topic_name(topic).ok()?;
    Some((topic, partition))
}

/// The name that a partition's directory takes while it is being removed; unlike any other.
pub fn deleted_dir(topic: &str, partition: i32) -> String {
    let tail = format!("-{partition}.{}{DELETED_SUFFIX}", Uuid::new_v4().simple());
    let room = FILE_NAME_BYTES_MAX - tail.len();
    format!("{}{tail}", &topic[..topic.len().min(room)])
}

/// Whether a directory's name is one that [`deleted_dir`] gives.
pub fn is_deleted_dir(name: &str) -> bool {
    let Some((rest, id)) = name.strip_suffix(DELETED_SUFFIX).and_then(|name| name.rsplit_once('.')) else {
        return false;
    };
    id.len() == 32 && Uuid::try_parse(id).is_ok() && rest.contains('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_kafka_takes_are_taken() {
        for name in ["a", "A.b_c-9", "...", "__consumer_offsets", &"x".repeat(249)] {
            assert_eq!(check_topic_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn names_that_kafka_refuses_are_refused_with_a_reason() {
        for name in ["", ".", "..", "a b", "a/b", "é", "a\n", &"x".repeat(250)] {
            assert!(check_topic_name(name).is_err(), "{name}");
        }
    }

    #[test]
    fn dots_and_underscores_collide() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_ne!(collision_key("a.b"), collision_key("a-b"));
    }

    #[test]
    fn a_directory_names_its_partition_and_nothing_else_does() {
        assert_eq!(parse_partition_dir(&partition_dir("a-1", 12)), Some(("a-1", 12)));
        for name in ["a", "a-", "-1", "a-01", "a--1-", "a-x", "a-99999999999", "lost+found", "a-0.ff-delete"]
        {
            assert_eq!(parse_partition_dir(name), None, "{name}");
        }
    }

    #[test]
    fn the_directory_of_a_deleted_partition_fits_and_is_no_partition() {
        let long = "x".repeat(249);
        let name = deleted_dir(&long, i32::MAX);
        assert!(name.len() <= FILE_NAME_BYTES_MAX);
        assert_eq!(parse_partition_dir(&name), None);
        assert_ne!(name, deleted_dir(&long, i32::MAX));
        assert!(is_deleted_dir(&name));
        assert!(!is_deleted_dir("my-delete"));
        assert!(!is_deleted_dir("a-0"));
    }
}
