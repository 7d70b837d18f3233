// Integers by their bits. No header is included: NVRTC has none, and these sizes are those of
// every compiler that builds this folder.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;
