"""Ready pieces for git, shells and worktree managers: nothing removes a worktree before all of it is durable."""

from __future__ import annotations

from typing import NamedTuple


class Snippet(NamedTuple):
    """One piece: what it is for, the line that installs it, and its text."""

    name: str
    purpose: str
    install: str
    text: str


# git runs an alias in the top directory and says in GIT_PREFIX where it was called; GIT_DIR would name the worktree
# that is to go.
GIT = """\
git config --global alias.wt-remove \\
    '!cd -- "${GIT_PREFIX:-.}" && unset GIT_DIR GIT_WORK_TREE GIT_PREFIX && exec convsync remove-worktree "$@"; :'
"""

SHELL = """\
# `git worktree remove` makes sure first; every other git command is git's own.
git() {
    if [ "${1-}" != worktree ] || [ "${2-}" != remove ]; then
        command git "$@"
        return
    fi
    shift 2
    command convsync remove-worktree "$@"
}
"""

POST_CHECKOUT = """\
#!/bin/sh
# Registers a worktree when git has just made it; `git worktree add` runs this with no previous HEAD.
case "$1" in *[!0]*) exit 0 ;; esac
[ -d .jp ] || exit 0
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_PREFIX
convsync register -q . >/dev/null || echo 'not registered; later: convsync register' >&2
exit 0
"""

WORKTRUNK = """\
# A failing pre-remove keeps the worktree. Worktrunk quotes what it puts in.
[[pre-remove]]
convsync = "convsync remove-worktree --check {{ worktree_path }}"
"""

GTR = """\
git config --global --add gtr.hook.preRemove 'convsync remove-worktree --check "$WORKTREE_PATH"'
"""

LAZYGIT = """\
customCommands:
  - key: 'X'
    context: 'worktrees'
    description: 'Make sure that all of it is durable, then remove the worktree'
    command: 'convsync remove-worktree {{ .SelectedWorktree.Path | quote }}'
    prompts:
      - type: 'confirm'
        title: 'Remove worktree'
        body: 'Make sure that all of it is durable, then remove {{ .SelectedWorktree.Path }}?'
    loadingText: 'Making sure that all of it is durable'
"""

SNIPPETS = (
    Snippet("git", "`git wt-remove PATH`, an alias", "convsync hooks git | sh", GIT),
    Snippet("shell", "`git worktree remove PATH` in bash and zsh", "convsync hooks shell >> ~/.bashrc", SHELL),
    Snippet(
        "post-checkout",
        "`git worktree add` registers, a git hook",
        'f=$(git rev-parse --git-path hooks/post-checkout) && convsync hooks post-checkout > "$f" && chmod +x "$f"',
        POST_CHECKOUT,
    ),
    Snippet(
        "worktrunk",
        "`wt remove` and `wt merge` of Worktrunk",
        "convsync hooks worktrunk >> ~/.config/worktrunk/config.toml",
        WORKTRUNK,
    ),
    Snippet("gtr", "`git gtr rm` of git-worktree-runner", "convsync hooks gtr | sh", GTR),
    Snippet("lazygit", "X in the worktrees of lazygit", "convsync hooks lazygit  # put it into config.yml", LAZYGIT),
)
