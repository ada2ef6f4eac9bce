"""Actions whose tool can stay."""

def _work(ctx):
    out = ctx.actions.declare_file(ctx.label.name + ".txt")
    flags = ctx.actions.args()
    flags.add(out)
    flags.add(ctx.label.name)
    flags.use_param_file("@%s", use_always = True)
    flags.set_param_file_format("multiline")
    ctx.actions.run(
        executable = ctx.executable._tool,
        arguments = ["--form=" + ctx.attr.form, flags],
        outputs = [out],
        mnemonic = "Work",
        execution_requirements = {
            "requires-worker-protocol": ctx.attr.form,
            "supports-workers": "1",
        },
    )
    return [DefaultInfo(files = depset([out]))]

work = rule(
    implementation = _work,
    attrs = {
        "form": attr.string(values = ["json", "proto"]),
        "_tool": attr.label(default = "//:tool.py", executable = True, allow_single_file = True, cfg = "exec"),
    },
)
