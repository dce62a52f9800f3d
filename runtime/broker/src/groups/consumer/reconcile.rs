//! One member's way from what it holds to what it shall hold: first it gives back what is not in its target,
//! then it gets what others have given back. No partition is given to a member while another one holds it.

use uuid::Uuid;

use crate::groups::records::{Assignment, CurrentValue, MemberState};

/// The next step of a member towards `target` of `target_epoch`. `owned` is what the member says it holds, if it
/// says so; `is_held` tells whether any member holds a partition.
pub(super) fn reconcile(
    current: &CurrentValue,
    target_epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    is_held: impl Fn(Uuid, i32) -> bool,
) -> CurrentValue {
    match current.state {
        MemberState::Stable if current.epoch == target_epoch => current.clone(),
        MemberState::Stable | MemberState::Unreleased => {
            advance(current, current.epoch, target_epoch, target, owned, is_held)
        }
        // It has not said that it gave back what it must.
        MemberState::Unrevoked if holds_any(owned, &current.revoking) => current.clone(),
        MemberState::Unrevoked => advance(current, current.epoch + 1, target_epoch, target, owned, is_held),
    }
}

/// Whether a member that holds `owned` holds any of `these`; one that does not say might.
fn holds_any(owned: Option<&Assignment>, these: &Assignment) -> bool {
    let Some(owned) = owned else { return true };
    these.iter().any(|(topic, partitions)| owned.get(topic).is_some_and(|own| !own.is_disjoint(partitions)))
}

fn advance(
    current: &CurrentValue,
    epoch: i32,
    target_epoch: i32,
    target: &Assignment,
    owned: Option<&Assignment>,
    is_held: impl Fn(Uuid, i32) -> bool,
) -> CurrentValue {
    let mut assigned = Assignment::new();
    let mut revoking = Assignment::new();
    for (topic, partitions) in &current.assigned {
        for partition in partitions {
            let stays = target.get(topic).is_some_and(|wanted| wanted.contains(partition));
            let to = if stays { &mut assigned } else { &mut revoking };
            to.entry(*topic).or_default().insert(*partition);
        }
    }
    let next = |state, epoch, assigned, revoking| CurrentValue {
        epoch,
        previous_epoch: if epoch == current.epoch { current.previous_epoch } else { current.epoch },
        state,
        assigned,
        revoking,
    };
    if !revoking.is_empty() && holds_any(owned, &revoking) {
        return next(MemberState::Unrevoked, epoch, assigned, revoking);
    }
    let mut waits = false;
    for (topic, partitions) in target {
        for partition in partitions {
            if assigned.get(topic).is_some_and(|own| own.contains(partition)) {
                continue;
            }
            if is_held(*topic, *partition) {
                waits = true;
            } else {
                assigned.entry(*topic).or_default().insert(*partition);
            }
        }
    }
    let state = if waits { MemberState::Unreleased } else { MemberState::Stable };
    next(state, target_epoch, assigned, Assignment::new())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const TOPIC: Uuid = Uuid::from_u128(1);

    fn of(partitions: &[i32]) -> Assignment {
        if partitions.is_empty() {
            return Assignment::new();
        }
        Assignment::from([(TOPIC, BTreeSet::from_iter(partitions.iter().copied()))])
    }

    fn at(epoch: i32, state: MemberState, assigned: &[i32], revoking: &[i32]) -> CurrentValue {
        CurrentValue {
            epoch,
            previous_epoch: epoch - 1,
            state,
            assigned: of(assigned),
            revoking: of(revoking),
        }
    }

    #[test]
    fn a_member_gives_back_before_its_epoch_moves() {
        let free = |_, _| false;
        let start = at(1, MemberState::Stable, &[0, 1], &[]);
        let asked = reconcile(&start, 2, &of(&[1, 2]), None, free);
        assert_eq!(asked, CurrentValue { previous_epoch: 0, ..at(1, MemberState::Unrevoked, &[1], &[0]) });
        assert_eq!(reconcile(&asked, 2, &of(&[1, 2]), Some(&of(&[0, 1])), free), asked);
        let done = reconcile(&asked, 2, &of(&[1, 2]), Some(&of(&[1])), free);
        assert_eq!(done, at(2, MemberState::Stable, &[1, 2], &[]));
    }

    #[test]
    fn a_member_waits_for_what_another_holds() {
        let start = at(1, MemberState::Stable, &[0], &[]);
        let waiting = reconcile(&start, 2, &of(&[0, 1]), Some(&of(&[0])), |_, partition| partition == 1);
        assert_eq!(waiting, at(2, MemberState::Unreleased, &[0], &[]));
        let done = reconcile(&waiting, 2, &of(&[0, 1]), None, |_, _| false);
        assert_eq!(done, CurrentValue { previous_epoch: 1, ..at(2, MemberState::Stable, &[0, 1], &[]) });
    }
}
