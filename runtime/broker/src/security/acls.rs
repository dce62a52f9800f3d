//! ACLs: which there are, which one a filter names, and what they allow. The rules are those of Kafka's authorizer: a
//! denial wins over any permission, reading, writing, deleting and altering imply describing, and what no ACL speaks of
//! is closed (or open, if the configuration says so).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;

use super::principal::{Operation, Principal, Resource, ResourceType, codes};

/// ACLs of a broker.
pub(crate) const ACLS_MAX: usize = 100_000;

/// One rule. Field for field as in Kafka's APIs.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize)]
pub(crate) struct Acl {
    pub resource_type: ResourceType,
    pub pattern: Pattern,
    pub name: String,
    pub principal: String,
    /// An address, or `*`.
    pub host: String,
    pub operation: Operation,
    pub permission: Permission,
}

codes! {
    /// How a rule's name is meant: as it is (`*` is every name), or as the beginning of names.
    Pattern {
        Literal = 3,
        Prefixed = 4,
    }
}

codes! {
    Permission {
        Deny = 2,
        Allow = 3,
    }
}

/// Which rules are meant; `None`: any.
#[derive(Clone, Debug, Default)]
pub(crate) struct AclFilter {
    pub resource_type: Option<ResourceType>,
    pub name: Option<String>,
    pub pattern: PatternFilter,
    pub principal: Option<String>,
    pub host: Option<String>,
    pub operation: Option<Operation>,
    pub permission: Option<Permission>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum PatternFilter {
    #[default]
    Any,
    /// Whatever speaks of the name: the name itself, `*`, and its prefixes.
    Match,
    Is(Pattern),
}

impl AclFilter {
    pub(crate) fn takes(&self, acl: &Acl) -> bool {
        fn is<T: PartialEq>(filter: &Option<T>, value: &T) -> bool {
            filter.as_ref().is_none_or(|filter| filter == value)
        }
        is(&self.resource_type, &acl.resource_type)
            && is(&self.principal, &acl.principal)
            && is(&self.host, &acl.host)
            && is(&self.operation, &acl.operation)
            && is(&self.permission, &acl.permission)
            && match (self.pattern, &self.name) {
                (PatternFilter::Is(pattern), _) if pattern != acl.pattern => false,
                (_, None) => true,
                (PatternFilter::Match, Some(name)) => acl.speaks_of(name),
                (_, Some(name)) => *name == acl.name,
            }
    }
}

impl Acl {
    fn speaks_of(&self, name: &str) -> bool {
        match self.pattern {
            Pattern::Literal => self.name == name || self.name == "*",
            Pattern::Prefixed => name.starts_with(&self.name),
        }
    }

    fn is_of(&self, principal: &Principal, host: &str) -> bool {
        (self.principal == principal.as_str() || self.principal == "User:*")
            && (self.host == host || self.host == "*")
    }

    fn covers(&self, operation: Operation) -> bool {
        use Operation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
        self.operation == All
            || self.operation == operation
            || self.permission == Permission::Allow
                && match operation {
                    Describe => matches!(self.operation, Read | Write | Delete | Alter),
                    DescribeConfigs => self.operation == AlterConfigs,
                    _ => false,
                }
    }
}

/// All rules, found by the names that they speak of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Acls {
    literal: HashMap<ResourceType, HashMap<String, Vec<Acl>>>,
    prefixed: HashMap<ResourceType, BTreeMap<String, Vec<Acl>>>,
    count: usize,
}

/// Who needs no rule, and what holds without any.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub super_users: HashSet<String>,
    pub allow_everyone_without_acl: bool,
}

impl Acls {
    pub(crate) fn new(acls: impl IntoIterator<Item = Acl>) -> Acls {
        let mut all = Acls::default();
        for acl in acls {
            all.insert(acl);
        }
        all
    }

    /// False: it was there already.
    pub(crate) fn insert(&mut self, acl: Acl) -> bool {
        let (kind, name) = (acl.resource_type, acl.name.clone());
        let of_name = match acl.pattern {
            Pattern::Literal => self.literal.entry(kind).or_default().entry(name).or_default(),
            Pattern::Prefixed => self.prefixed.entry(kind).or_default().entry(name).or_default(),
        };
        let is_new = !of_name.contains(&acl);
        if is_new {
            of_name.push(acl);
            self.count += 1;
        }
        is_new
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Acl> {
        let literal = self.literal.values().flat_map(HashMap::values);
        literal.chain(self.prefixed.values().flat_map(BTreeMap::values)).flatten()
    }

    /// Whether `principal`, calling from `host`, may do `operation` on `resource`.
    pub(crate) fn allows(
        &self,
        rules: &Rules,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        if rules.super_users.contains(principal.as_str()) {
            return true;
        }
        let host = host.to_canonical().to_string();
        let (mut spoken_of, mut allowed) = (false, false);
        for acl in self.of(resource) {
            spoken_of = true;
            if acl.is_of(principal, &host) && acl.covers(operation) {
                match acl.permission {
                    Permission::Deny => return false,
                    Permission::Allow => allowed = true,
                }
            }
        }
        allowed || !spoken_of && rules.allow_everyone_without_acl
    }

    /// Whether there may be a resource of this type on which the operation is allowed.
    pub(crate) fn allows_any(
        &self,
        rules: &Rules,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource_type: ResourceType,
    ) -> bool {
        if rules.super_users.contains(principal.as_str()) {
            return true;
        }
        let host = host.to_canonical().to_string();
        let mut allowed = rules.allow_everyone_without_acl;
        for acl in self.iter().filter(|acl| acl.resource_type == resource_type) {
            if acl.is_of(principal, &host) && acl.covers(operation) {
                match acl.permission {
                    Permission::Deny if acl.pattern == Pattern::Literal && acl.name == "*" => return false,
                    Permission::Deny => {}
                    Permission::Allow => allowed = true,
                }
            }
        }
        allowed
    }

    /// The rules that speak of a resource.
    fn of(&self, resource: Resource<'_>) -> impl Iterator<Item = &Acl> {
        let (kind, name) = (resource.kind(), resource.name());
        let literal = self.literal.get(&kind);
        let exact = literal.and_then(|names| names.get(name));
        let all = literal.filter(|_| name != "*").and_then(|names| names.get("*"));
        // Every prefix of the name sorts before it, and none before its first character.
        let first = name.char_indices().nth(1).map_or(name.len(), |(end, _)| end);
        let prefixed = self.prefixed.get(&kind).into_iter();
        let prefixed = prefixed.flat_map(move |names| {
            let range = names.range::<str, _>((
                std::ops::Bound::Included(&name[..first]),
                std::ops::Bound::Included(name),
            ));
            range.filter(move |(prefix, _)| name.starts_with(prefix.as_str())).map(|(_, acls)| acls)
        });
        exact.into_iter().chain(all).chain(prefixed).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acl(name: &str, pattern: Pattern, who: &str, operation: Operation, permission: Permission) -> Acl {
        Acl {
            resource_type: ResourceType::Topic,
            pattern,
            name: name.to_owned(),
            principal: who.to_owned(),
            host: "*".to_owned(),
            operation,
            permission,
        }
    }

    fn allows(acls: &Acls, who: &str, operation: Operation, topic: &str) -> bool {
        let rules = Rules { super_users: ["User:root".to_owned()].into(), allow_everyone_without_acl: false };
        let host = IpAddr::from([127, 0, 0, 1]);
        acls.allows(&rules, &Principal::user(who), host, operation, Resource::Topic(topic))
    }

    #[test]
    fn a_denial_wins_over_any_permission() {
        use Operation::{All, Describe, Read, Write};
        let acls = Acls::new([
            acl("*", Pattern::Literal, "User:*", All, Permission::Allow),
            acl("pay", Pattern::Prefixed, "User:eve", Write, Permission::Deny),
        ]);
        assert!(allows(&acls, "eve", Write, "clicks"));
        assert!(allows(&acls, "eve", Read, "payments"));
        assert!(!allows(&acls, "eve", Write, "payments"));
        assert!(!allows(&acls, "eve", Write, "pay"));
        assert!(allows(&acls, "eve", Write, "pa"));
        assert!(allows(&acls, "eve", Describe, "payments"));
        assert!(allows(&acls, "bob", Write, "payments"));
    }

    #[test]
    fn reading_implies_describing_and_nothing_else() {
        use Operation::{Alter, Describe, Read, Write};
        let acls = Acls::new([acl("a", Pattern::Literal, "User:bob", Read, Permission::Allow)]);
        assert!(allows(&acls, "bob", Read, "a") && allows(&acls, "bob", Describe, "a"));
        assert!(!allows(&acls, "bob", Write, "a") && !allows(&acls, "bob", Alter, "a"));
        assert!(!allows(&acls, "bob", Read, "ab") && !allows(&acls, "eve", Read, "a"));
        assert!(allows(&acls, "root", Write, "a"));
        // A denied description does not follow from a denied write.
        let acls = Acls::new([
            acl("a", Pattern::Literal, "User:bob", Operation::All, Permission::Allow),
            acl("a", Pattern::Literal, "User:bob", Write, Permission::Deny),
        ]);
        assert!(allows(&acls, "bob", Describe, "a"));
    }

    #[test]
    fn what_no_rule_speaks_of_follows_the_configuration() {
        let acls = Acls::new([acl("a", Pattern::Prefixed, "User:bob", Operation::Read, Permission::Allow)]);
        let host = IpAddr::from([10, 0, 0, 1]);
        for open in [false, true] {
            let rules = Rules { allow_everyone_without_acl: open, ..Rules::default() };
            let may = |topic| {
                acls.allows(&rules, &Principal::user("eve"), host, Operation::Read, Resource::Topic(topic))
            };
            assert_eq!((may("b"), may("ab")), (open, false));
        }
    }

    #[test]
    fn a_filter_takes_what_it_says() {
        let all = [
            acl("a", Pattern::Literal, "User:bob", Operation::Read, Permission::Allow),
            acl("a", Pattern::Prefixed, "User:bob", Operation::Read, Permission::Allow),
            acl("*", Pattern::Literal, "User:*", Operation::Write, Permission::Deny),
        ];
        let taken = |filter: &AclFilter| -> Vec<bool> { all.iter().map(|acl| filter.takes(acl)).collect() };
        let named =
            |pattern, name: &str| AclFilter { pattern, name: Some(name.to_owned()), ..AclFilter::default() };
        assert_eq!(taken(&AclFilter::default()), [true, true, true]);
        assert_eq!(taken(&named(PatternFilter::Any, "a")), [true, true, false]);
        assert_eq!(taken(&named(PatternFilter::Is(Pattern::Prefixed), "a")), [false, true, false]);
        assert_eq!(taken(&named(PatternFilter::Match, "abc")), [false, true, true]);
    }
}
