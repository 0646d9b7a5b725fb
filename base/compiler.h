/* The compiler's name and version, for reports. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#if defined(__clang__)
#define TT_COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define TT_COMPILER "gcc " __VERSION__
#else
#define TT_COMPILER "unknown"
#endif

#endif
