//! Who a caller is and what it may do: users, SCRAM credentials and ACLs.
//!
//! As with Kafka, there are two switches. With users configured, every connection must authenticate. With an authorizer
//! configured, what no ACL allows is denied; without one everything is allowed, and ACLs cannot be made.

mod acls;
mod principal;
mod sasl;
pub(crate) mod scram;
mod state;
pub(crate) mod x509;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest, Sha256};

pub(crate) use acls::{ACLS_MAX, Acl, AclFilter, Acls, Pattern, PatternFilter, Permission, Rules};
pub(crate) use principal::{CLUSTER_NAME, Operation, Principal, Resource, ResourceType};
pub(crate) use sasl::{Exchange, MECHANISMS, Step};
use scram::{Credential, Mechanism};
use state::State;

use crate::broker::StartError;
use crate::config::BrokerConfig;

/// Users whose SCRAM credentials clients made.
pub(crate) const CREDENTIALS_MAX: usize = 100_000;

pub(crate) struct Security {
    data_dir: PathBuf,
    /// `None`: everything is allowed.
    rules: Option<Rules>,
    /// Digests of the configured users' passwords: compared in constant time, whatever their length.
    passwords: HashMap<String, ConfiguredUser>,
    /// For what is said to users that do not exist.
    secret: Vec<u8>,
    acls: RwLock<Arc<Acls>>,
    /// Held while a change is written.
    state: Mutex<State>,
    /// Made when first needed: each is milliseconds of work.
    derived: Mutex<HashMap<(String, Mechanism), Credential>>,
}

struct ConfiguredUser {
    password: String,
    digest: [u8; 32],
}

/// A change that cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    #[error("the change cannot be written: {0}")]
    Io(#[from] io::Error),
    #[error("there are too many already")]
    Full,
}

impl Security {
    pub(crate) fn open(config: &BrokerConfig) -> Result<Security, StartError> {
        let state = state::read(&config.data_dir)
            .map_err(|error| StartError::File { path: state::path(&config.data_dir), error })?;
        let mut passwords = HashMap::new();
        for user in &config.users {
            if user.name.is_empty() || user.password.is_empty() {
                return Err(StartError::Config("a user needs a name and a password".to_owned()));
            }
            let digest = Sha256::digest(user.password.as_bytes()).into();
            let known = ConfiguredUser { password: user.password.clone(), digest };
            if passwords.insert(user.name.clone(), known).is_some() {
                return Err(StartError::Config(format!("the user `{}` is there twice", user.name)));
            }
        }
        let rules = config.authorizer.as_ref().map(|authorizer| Rules {
            super_users: authorizer.super_users.iter().cloned().collect(),
            allow_everyone_without_acl: authorizer.allow_everyone_without_acl,
        });
        Ok(Security {
            data_dir: config.data_dir.clone(),
            rules,
            passwords,
            secret: scram::nonce().into_bytes(),
            acls: RwLock::new(Arc::new(Acls::new(state.acls.iter().cloned()))),
            state: Mutex::new(state),
            derived: Mutex::default(),
        })
    }

    /// Whether connections must say who they are.
    pub(crate) fn authenticates(&self) -> bool {
        !self.passwords.is_empty()
    }

    /// Whether ACLs have a meaning.
    pub(crate) fn authorizes(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether `principal`, calling from `host`, may do `operation` on `resource`.
    pub(crate) fn allows(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource: Resource<'_>,
    ) -> bool {
        let Some(rules) = &self.rules else { return true };
        self.acls().allows(rules, principal, host, operation, resource)
    }

    /// Whether there may be a resource of this type on which the operation is allowed.
    pub(crate) fn allows_any(
        &self,
        principal: &Principal,
        host: IpAddr,
        operation: Operation,
        resource_type: ResourceType,
    ) -> bool {
        let Some(rules) = &self.rules else { return true };
        self.acls().allows_any(rules, principal, host, operation, resource_type)
    }

    /// The bits of what `principal` may do on `resource`, as Metadata and its kin report them (KIP-430).
    pub(crate) fn authorized_operations(
        &self,
        principal: &Principal,
        host: IpAddr,
        resource: Resource<'_>,
    ) -> i32 {
        let all = Operation::of(resource.kind()).iter();
        let allowed = all.filter(|operation| self.allows(principal, host, **operation, resource));
        allowed.fold(0, |bits, operation| bits | 1 << operation.code())
    }

    /// The rules as they are now.
    pub(crate) fn acls(&self) -> Arc<Acls> {
        Arc::clone(&self.acls.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds rules; those that are there already stay as they are. Returns when the disk has them.
    pub(crate) fn create_acls(&self, acls: &[Acl]) -> Result<(), ChangeError> {
        self.change(|state| {
            let mut known: BTreeSet<Acl> = state.acls.iter().cloned().collect();
            state.acls.extend(acls.iter().filter(|acl| known.insert((*acl).clone())).cloned());
            if state.acls.len() > ACLS_MAX { Err(ChangeError::Full) } else { Ok(()) }
        })
    }

    /// Removes the rules that a filter takes, and gives them, filter by filter.
    pub(crate) fn delete_acls(&self, filters: &[AclFilter]) -> Result<Vec<Vec<Acl>>, ChangeError> {
        let mut taken = Vec::new();
        self.change(|state| {
            for filter in filters {
                let takes = state.acls.iter().filter(|acl| filter.takes(acl));
                taken.push(takes.cloned().collect());
            }
            state.acls.retain(|acl| !filters.iter().any(|filter| filter.takes(acl)));
            Ok(())
        })?;
        Ok(taken)
    }

    /// The users with SCRAM credentials that clients made, with mechanism and iterations.
    pub(crate) fn scram_users(&self) -> Vec<(String, Mechanism, u32)> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let all = state.credentials.iter();
        all.map(|((user, mechanism), credential)| (user.clone(), *mechanism, credential.iterations)).collect()
    }

    /// Sets (`Some`) and removes (`None`) SCRAM credentials. Returns when the disk has them.
    pub(crate) fn alter_scram(
        &self,
        changes: Vec<(String, Mechanism, Option<Credential>)>,
    ) -> Result<(), ChangeError> {
        self.change(|state| {
            for (user, mechanism, credential) in changes {
                match credential {
                    Some(credential) => state.credentials.insert((user, mechanism), credential),
                    None => state.credentials.remove(&(user, mechanism)),
                };
            }
            if state.credentials.len() > CREDENTIALS_MAX { Err(ChangeError::Full) } else { Ok(()) }
        })
    }

    fn change(&self, change: impl FnOnce(&mut State) -> Result<(), ChangeError>) -> Result<(), ChangeError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = state.clone();
        change(&mut changed)?;
        state::write(&self.data_dir, &changed)?;
        let acls = Arc::new(Acls::new(changed.acls.iter().cloned()));
        *self.acls.write().unwrap_or_else(PoisonError::into_inner) = acls;
        *state = changed;
        Ok(())
    }

    /// Whether this is the password of a configured user. An unknown user takes as long.
    fn is_password(&self, user: &str, password: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(password.as_bytes()).into();
        let known = self.passwords.get(user);
        let expected = known.map_or([0; 32], |known| known.digest);
        scram::same(&digest, &expected) && known.is_some()
    }

    /// What a user must prove to know: what a client set, else what the configuration says, else what nobody can.
    async fn credential(self: &Arc<Self>, user: String, mechanism: Mechanism) -> Credential {
        let key = (user, mechanism);
        let set = self.state.lock().unwrap_or_else(PoisonError::into_inner).credentials.get(&key).cloned();
        let known =
            set.or_else(|| self.derived.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned());
        if let Some(known) = known {
            return known;
        }
        let Some(user) = self.passwords.get(&key.0) else {
            return Credential::of_nobody(mechanism, &key.0, &self.secret);
        };
        let password = user.password.clone();
        let derive = move || {
            let salt = scram::nonce().into_bytes();
            Credential::from_password(mechanism, &password, salt, scram::ITERATIONS_MIN)
        };
        match tokio::task::spawn_blocking(derive).await {
            Ok(credential) => {
                let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
                derived.entry(key).or_insert(credential).clone()
            }
            Err(_) => Credential::of_nobody(mechanism, &key.0, &self.secret),
        }
    }
}
