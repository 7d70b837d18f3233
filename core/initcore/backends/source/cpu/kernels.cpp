// One target's kernels: compiled once for each kind of CPU, with TARGET naming it.
#include "apply.h"
#include "fill.h"
#include "mix.h"
#include "repeat.h"
#include "subtract.h"

#define JOIN(a, b) a##b
#define NAMED(prefix, target) JOIN(prefix, target)
#define TEXT(name) #name
#define QUOTED(name) TEXT(name)

extern "C" const Target NAMED(initserve_target_, TARGET);
extern "C" const Target NAMED(initserve_target_, TARGET) = {QUOTED(TARGET), fill, emit, mix, fill_pieces,
                                                             apply, subtract_rounded, repeat};
