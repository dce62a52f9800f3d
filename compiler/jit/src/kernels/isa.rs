//! Which instructions the kernels may use on this machine.

/// A set of instructions that a kernel is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// Plain Rust: works everywhere, and is what the others are compared with.
    pub const PORTABLE: Isa = Isa(Kind::Portable);

    /// The best one that this machine has.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // An `Isa` of AVX2 exists only on machines that have it: the kernels rely on that.
            return Isa(Kind::Avx2);
        }
        Isa::PORTABLE
    }

    pub(super) fn kind(self) -> Kind {
        self.0
    }
}

impl Default for Isa {
    fn default() -> Isa {
        Isa::detect()
    }
}
