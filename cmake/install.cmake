# What cmake --install leaves, in three components: the program, the shared library (runtime), and what programs are
# made with (development). Prefixes may be moved: what pkg-config and find_package read finds the rest beside itself.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/trimtab)
set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

option(TT_DEBIAN "Install as Debian's packages are laid out: for make deb" OFF)
if(TT_PROGRAMS)
  install(TARGETS trimtab-cli COMPONENT program)
  install(TARGETS trimtab-rank COMPONENT program DESTINATION ${CMAKE_INSTALL_LIBEXECDIR})
  if(TARGET trimtab-mpi AND NOT TT_DEBIAN) # which would make the package depend on Open MPI
    install(TARGETS trimtab-mpi COMPONENT program OPTIONAL)
  endif()
  include(cmake/documents.cmake)
endif()
install(TARGETS trimtab EXPORT trimtab-targets COMPONENT development)
if(TT_SHARED)
  install(TARGETS trimtab-shared EXPORT trimtab-targets LIBRARY COMPONENT runtime NAMELINK_COMPONENT development)
endif()
install(FILES runtime/trimtab.h base/tt_enums.h base/tt_error.h base/tt_sampling.h COMPONENT development
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trimtab)

# CMake's package.
list(JOIN TT_NEEDS_WITH_VERSIONS " " TT_NEEDS_CMAKE)
configure_package_config_file(cmake/trimtab-config.cmake.in trimtab-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(trimtab-config-version.cmake COMPATIBILITY SameMinorVersion)
install(EXPORT trimtab-targets NAMESPACE trimtab:: DESTINATION ${package_dir} COMPONENT development)
install(FILES ${PROJECT_BINARY_DIR}/trimtab-config.cmake ${PROJECT_BINARY_DIR}/trimtab-config-version.cmake
  DESTINATION ${package_dir} COMPONENT development)

# pkg-config's. Without a shared library, what the static one needs is not only for --static.
file(RELATIVE_PATH TT_PREFIX_FROM_PC /prefix/${pc_dir} /prefix)
string(REGEX REPLACE "/$" "" TT_PREFIX_FROM_PC "${TT_PREFIX_FROM_PC}")
list(JOIN TT_NEEDS ", " TT_PC_NEEDS)
set(TT_PC_LIBS_PRIVATE "-pthread -lm")
foreach(library ${TT_DEVICE_NEEDS})
  string(APPEND TT_PC_LIBS_PRIVATE " -l${library}")
endforeach()
set(TT_PC_LIBS "")
set(TT_PC_REQUIRES Requires.private)
if(NOT TT_SHARED)
  set(TT_PC_LIBS " ${TT_PC_LIBS_PRIVATE}")
  set(TT_PC_REQUIRES Requires)
endif()
configure_file(cmake/trimtab.pc.in trimtab.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/trimtab.pc DESTINATION ${pc_dir} COMPONENT development)

# The licence and what docs/ has to read, for people who have no source.
if(NOT TT_DEBIAN)
  install(FILES LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
endif()
install(FILES README.md docs/audit.md docs/cli.md docs/cluster.md docs/cookbook.md docs/formats.md docs/install.md
  docs/python.md docs/refusals.md docs/serve.md docs/store.md docs/styles.md scripts/setup/vectors_to_gguf.py
  DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT program)
set(examples ${CMAKE_INSTALL_DOCDIR}/examples)
if(TT_DEBIAN)
  set(examples ${CMAKE_INSTALL_DATADIR}/doc/libtrimtab-dev/examples)
endif()
install(FILES examples/minimal.c examples/device.c examples/stream.c DESTINATION ${examples} COMPONENT development)

include(cmake/package.cmake)
