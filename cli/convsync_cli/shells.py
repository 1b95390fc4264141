"""The completion scripts: small, the same for every version of click, and safe with spaces in paths."""

from __future__ import annotations

# `:dir` and `:file` say what the shell completes itself, in addition; every other line is a value.
BASH = """\
# Completion of convsync for bash.
_convsync() {
    local line also=
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :*) also=${line#:} ;;
            *) COMPREPLY+=("$line") ;;
        esac
    done < <(_CONVSYNC_COMPLETE=bash "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    case $also in
        dir) compopt -o filenames -o plusdirs 2>/dev/null ;; # these quote spaces, too
        file) compopt -o default 2>/dev/null ;;
    esac
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then compopt -o nospace 2>/dev/null; fi
}
complete -o nosort -F _convsync convsync 2>/dev/null || complete -F _convsync convsync
"""

ZSH = """\
#compdef convsync
# Completion of convsync for zsh.
_convsync() {
    local line also
    local -a described plain open
    while IFS= read -r line; do
        case $line in
            :*) also=${line#:} ;;
            *$'\\t'*) described+=("${${line%%$'\\t'*}//:/\\\\:}:${line#*$'\\t'}") ;;
            *=) open+=("$line") ;;
            *) plain+=("$line") ;;
        esac
    done < <(_CONVSYNC_COMPLETE=zsh "${(Q)words[1]}" "${(@Q)words[2,CURRENT]}" 2>/dev/null)
    (( $#described )) && _describe -V convsync described
    (( $#plain )) && compadd -V convsync -a plain
    (( $#open )) && compadd -S '' -V convsync -a open
    case $also in
        dir) _path_files -/ ;;
        file) _path_files ;;
    esac
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _convsync "$@"
else
    compdef _convsync convsync
fi
"""

FISH = """\
# Completion of convsync for fish.
function __convsync_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    for line in (env _CONVSYNC_COMPLETE=fish $before[1] $before[2..-1] "$current" 2>/dev/null)
        switch $line
            case ':dir'
                __fish_complete_directories $current
            case ':file'
                __fish_complete_path $current
            case '*'
                echo $line
        end
    end
end
complete --command convsync --no-files --keep-order --arguments '(__convsync_complete)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
