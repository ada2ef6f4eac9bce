"""A platform, and the toolchain that builds for it and on it: gcc where Debian puts it."""

load("@bazel_tools//tools/cpp:unix_cc_toolchain_config.bzl", "cc_toolchain_config")
load("@rules_cc//cc:defs.bzl", "cc_toolchain")

_TOOLS = ["ar", "cpp", "dwp", "gcc", "gcov", "ld", "llvm-cov", "llvm-profdata", "nm", "objcopy", "objdump", "strip"]

def gcc(name, version):
    """Declares the platform NAME and the toolchain that serves it.

    Args:
      name: the platform's name, and the value of its pool's `toolchain` property.
      version: gcc's major version: it names the folder of the compiler's own headers.
    """
    native.constraint_value(
        name = name + "_constraint",
        constraint_setting = ":toolchain",
    )
    native.platform(
        name = name,
        constraint_values = [
            "@platforms//cpu:x86_64",
            "@platforms//os:linux",
            ":" + name + "_constraint",
        ],
        exec_properties = {
            "ISA": "x86-64",
            "OSFamily": "linux",
            "toolchain": name,
        },
    )
    cc_toolchain_config(
        name = name + "_config",
        abi_libc_version = "glibc",
        abi_version = "gcc",
        compile_flags = ["-fno-omit-frame-pointer", "-Wno-builtin-macro-redefined"],
        compiler = "gcc",
        # Dates in objects would make two builds of the same sources differ.
        unfiltered_compile_flags = ['-D__DATE__="redacted"', '-D__TIMESTAMP__="redacted"', '-D__TIME__="redacted"'],
        coverage_compile_flags = ["--coverage"],
        coverage_link_flags = ["--coverage"],
        cpu = "k8",
        cxx_builtin_include_directories = [
            "/usr/lib/gcc/x86_64-linux-gnu/" + version,
            "/usr/include",
            "/usr/local/include",
        ],
        cxx_flags = ["-std=c++17"],
        dbg_compile_flags = ["-g"],
        host_system_name = "local",
        link_flags = ["-Wl,-z,relro,-z,now"],
        link_libs = ["-lstdc++", "-lm", "-lpthread"],
        opt_compile_flags = ["-O2", "-DNDEBUG"],
        supports_start_end_lib = False,
        target_libc = "glibc",
        target_system_name = "x86_64-linux-gnu",
        tool_paths = {tool: "/usr/bin/" + tool for tool in _TOOLS},
        toolchain_identifier = name,
    )
    native.filegroup(name = name + "_files")
    cc_toolchain(
        name = name + "_cc",
        all_files = ":" + name + "_files",
        compiler_files = ":" + name + "_files",
        dwp_files = ":" + name + "_files",
        linker_files = ":" + name + "_files",
        objcopy_files = ":" + name + "_files",
        strip_files = ":" + name + "_files",
        supports_param_files = 1,
        toolchain_config = ":" + name + "_config",
        toolchain_identifier = name,
    )
    native.toolchain(
        name = name + "_toolchain",
        exec_compatible_with = [":" + name + "_constraint"],
        target_compatible_with = [":" + name + "_constraint"],
        toolchain = ":" + name + "_cc",
        toolchain_type = "@bazel_tools//tools/cpp:toolchain_type",
    )
