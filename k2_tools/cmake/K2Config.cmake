# find_package(K2 REQUIRED), with -DK2_DIR="$(k2 cmake-dir)".
#
#   k2_bpf_object(<target> SOURCE <file.bpf.c>
#                 [OUTPUT <file>]           default: <target>.bpf.o in the current binary folder
#                 [CPU <v1|v2|v3|v4>]       default: what clang takes
#                 [INCLUDES <folder>...] [DEFINITIONS <name[=value]>...] [OPTIONS <clang option>...]
#                 [SETTINGS <NAME=value>...] K2_ settings without their prefix: GOAL=size SKIP_FUNCS=probe_*
#                 [REPORT <file>]           gets a line of JSON for each compilation (docs/report.md)
#                 [SKELETON]                bpftool's header <target>.skel.h beside the output
#                 [EXCLUDE_FROM_ALL])
#
# The target's property K2_OBJECT is the path of the object, K2_SKELETON_DIR the folder of the header.

include_guard(GLOBAL)

get_filename_component(_k2_prefix "${CMAKE_CURRENT_LIST_DIR}/../../../../.." ABSOLUTE)
find_program(K2_CLANG_EXECUTABLE k2-clang HINTS ENV VIRTUAL_ENV "${_k2_prefix}" PATH_SUFFIXES bin
             DOC "clang for BPF with the optimiser behind it")
find_program(K2_BPFTOOL_EXECUTABLE bpftool HINTS /usr/sbin /usr/local/sbin DOC "for SKELETON alone")
mark_as_advanced(K2_CLANG_EXECUTABLE K2_BPFTOOL_EXECUTABLE)
unset(_k2_prefix)
if(NOT K2_CLANG_EXECUTABLE)
  set(K2_FOUND FALSE)
  set(K2_NOT_FOUND_MESSAGE "k2-clang is not on PATH: set K2_CLANG_EXECUTABLE")
  return()
endif()

function(k2_bpf_object target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "SKELETON;EXCLUDE_FROM_ALL" "SOURCE;OUTPUT;CPU;REPORT"
                        "INCLUDES;DEFINITIONS;OPTIONS;SETTINGS")
  if(arg_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "k2_bpf_object(${target}): unknown argument ${arg_UNPARSED_ARGUMENTS}")
  endif()
  if(arg_KEYWORDS_MISSING_VALUES)
    message(FATAL_ERROR "k2_bpf_object(${target}): no value for ${arg_KEYWORDS_MISSING_VALUES}")
  endif()
  if(NOT arg_SOURCE)
    message(FATAL_ERROR "k2_bpf_object(${target}): SOURCE is missing")
  endif()
  get_filename_component(source "${arg_SOURCE}" ABSOLUTE)
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${target}.bpf.o")
  if(arg_OUTPUT)
    get_filename_component(output "${arg_OUTPUT}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")
  endif()
  get_filename_component(folder "${output}" DIRECTORY)

  set(words --target=bpf -O2 -g)
  if(arg_CPU)
    list(APPEND words "-mcpu=${arg_CPU}")
  endif()
  foreach(include IN LISTS arg_INCLUDES)
    get_filename_component(include "${include}" ABSOLUTE)
    list(APPEND words "-I${include}")
  endforeach()
  list(TRANSFORM arg_DEFINITIONS PREPEND "-D")
  list(TRANSFORM arg_SETTINGS PREPEND "K2_")
  if(arg_REPORT)
    get_filename_component(report "${arg_REPORT}" ABSOLUTE BASE_DIR "${CMAKE_CURRENT_BINARY_DIR}")
    list(APPEND arg_SETTINGS "K2_REPORT=${report}")
  endif()

  # A k2.toml may come or change without the source doing so.
  set(depends "${source}")
  set(above "${folder}")
  while(TRUE)
    if(EXISTS "${above}/k2.toml")
      list(APPEND depends "${above}/k2.toml")
      break()
    endif()
    get_filename_component(next "${above}" DIRECTORY)
    if(next STREQUAL above)
      break()
    endif()
    set(above "${next}")
  endwhile()

  add_custom_command(
    OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" -E make_directory "${folder}"
    COMMAND "${CMAKE_COMMAND}" -E env ${arg_SETTINGS} "${K2_CLANG_EXECUTABLE}" ${words} ${arg_DEFINITIONS}
            ${arg_OPTIONS} -MD -MF "${output}.d" -MT "${output}" -c "${source}" -o "${output}"
    DEPENDS ${depends}
    DEPFILE "${output}.d"
    COMMENT "BPF object ${target}"
    COMMAND_EXPAND_LISTS VERBATIM)
  set(products "${output}")
  if(arg_SKELETON)
    if(NOT K2_BPFTOOL_EXECUTABLE)
      message(FATAL_ERROR "k2_bpf_object(${target}): SKELETON needs bpftool: set K2_BPFTOOL_EXECUTABLE")
    endif()
    set(header "${folder}/${target}.skel.h")
    add_custom_command(
      OUTPUT "${header}"
      COMMAND "${K2_BPFTOOL_EXECUTABLE}" gen skeleton "${output}" name "${target}" > "${header}.tmp"
      COMMAND "${CMAKE_COMMAND}" -E rename "${header}.tmp" "${header}"
      DEPENDS "${output}"
      COMMENT "skeleton of ${target}"
      VERBATIM)
    list(APPEND products "${header}")
  endif()

  set(all ALL)
  if(arg_EXCLUDE_FROM_ALL)
    set(all "")
  endif()
  add_custom_target(${target} ${all} DEPENDS ${products} SOURCES "${source}")
  set_target_properties(${target} PROPERTIES K2_OBJECT "${output}" K2_SKELETON_DIR "${folder}")
endfunction()
