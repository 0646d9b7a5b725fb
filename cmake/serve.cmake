# trimtab-serve, the server, and trimtab-govern, its store: parts of the program alone, so that the library depends on
# no more than before. They need libuv, llhttp and SQLite. Debian 12 has llhttp as C source (node-llhttp), which is
# compiled here in its strict mode; Debian 13 as a library, which is always strict. Where one of them is missing the
# program is built with runtime/serve/no_serve.c, which says so when it is asked to serve.
set(TT_SERVE AUTO CACHE STRING "The server and its store: AUTO (where libuv, llhttp and SQLite are found), ON or OFF")
set_property(CACHE TT_SERVE PROPERTY STRINGS AUTO ON OFF)

# Why there can be no server, or "".
function(tt_serve_look problem)
  pkg_check_modules(UV QUIET IMPORTED_TARGET "libuv>=1.44")
  pkg_check_modules(SQLITE QUIET IMPORTED_TARGET "sqlite3>=3.40")
  find_path(TT_LLHTTP_INCLUDE llhttp.h PATHS /usr/share/include/llhttp)
  find_library(TT_LLHTTP_LIBRARY llhttp)
  find_path(TT_LLHTTP_SOURCE llhttp.c PATHS /usr/share/llhttp NO_DEFAULT_PATH)
  if(NOT UV_FOUND)
    set(${problem} "there is no libuv" PARENT_SCOPE)
  elseif(NOT TT_LLHTTP_INCLUDE OR NOT (TT_LLHTTP_LIBRARY OR TT_LLHTTP_SOURCE))
    set(${problem} "there is no llhttp" PARENT_SCOPE)
  elseif(NOT SQLITE_FOUND)
    set(${problem} "there is no SQLite" PARENT_SCOPE)
  else()
    set(${problem} "" PARENT_SCOPE)
  endif()
endfunction()

if(TT_SERVE)
  tt_serve_look(tt_serve_problem)
else()
  set(tt_serve_problem "TT_SERVE is off")
endif()
if(tt_serve_problem AND TT_SERVE AND NOT TT_SERVE STREQUAL "AUTO")
  message(FATAL_ERROR "TT_SERVE is ${TT_SERVE}, but ${tt_serve_problem}")
endif()

if(tt_serve_problem)
  message(STATUS "Server: none (${tt_serve_problem})")
  tt_add_objects(trimtab-serve runtime/serve/no_serve.c)
  set(TT_HAS_SERVE OFF)
else()
  message(STATUS "Server: libuv ${UV_VERSION}, llhttp, SQLite ${SQLITE_VERSION}")
  file(GLOB TT_GOVERN_SOURCES CONFIGURE_DEPENDS controller/govern/*.c)
  tt_add_objects(trimtab-govern ${TT_GOVERN_SOURCES})
  target_link_libraries(trimtab-govern PUBLIC PkgConfig::SQLITE)
  file(GLOB TT_SERVE_SOURCES CONFIGURE_DEPENDS runtime/serve/*.c)
  list(FILTER TT_SERVE_SOURCES EXCLUDE REGEX "/no_serve.c$")
  tt_embed(TT_SERVE_FILES runtime/serve/dashboard/live.html runtime/serve/dashboard/live.css
    runtime/serve/dashboard/live.js runtime/serve/dashboard/charts.js)
  tt_add_objects(trimtab-serve ${TT_SERVE_SOURCES} ${TT_SERVE_FILES})
  target_link_libraries(trimtab-serve PUBLIC trimtab-page)
  # LLHTTP_STRICT_MODE is a macro of its header too, of releases that have the mode.
  target_compile_definitions(trimtab-serve PUBLIC LLHTTP_STRICT_MODE=1)
  target_include_directories(trimtab-serve SYSTEM PUBLIC ${TT_LLHTTP_INCLUDE})
  target_link_libraries(trimtab-serve PUBLIC PkgConfig::UV)
  if(TT_LLHTTP_LIBRARY)
    target_link_libraries(trimtab-serve PUBLIC ${TT_LLHTTP_LIBRARY})
  else()
    add_library(trimtab-llhttp STATIC EXCLUDE_FROM_ALL ${TT_LLHTTP_SOURCE}/llhttp.c ${TT_LLHTTP_SOURCE}/api.c
      ${TT_LLHTTP_SOURCE}/http.c)
    target_compile_definitions(trimtab-llhttp PRIVATE LLHTTP_STRICT_MODE=1)
    target_include_directories(trimtab-llhttp PRIVATE ${TT_LLHTTP_INCLUDE})
    target_compile_options(trimtab-llhttp PRIVATE -w) # another project's
    target_link_libraries(trimtab-serve PUBLIC trimtab-llhttp)
  endif()
  if(TT_FUZZ)
    set_property(SOURCE ${TT_SERVE_SOURCES} ${TT_GOVERN_SOURCES} APPEND PROPERTY COMPILE_OPTIONS
      -fsanitize=fuzzer-no-link)
  endif()
  set(TT_HAS_SERVE ON)
endif()
