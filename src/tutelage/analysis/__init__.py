"""Why a method works, or does not: what its weights, noise, teachers and minutes say of a run or a comparison."""
